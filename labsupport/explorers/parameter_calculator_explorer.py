"""The parameter calculator: what LoRA or DoRA trains on a model, which matrices grow, how big the file is."""

from __future__ import annotations

from collections.abc import Iterable

import ipywidgets as widgets

from labsupport.configs import model_configs
from labsupport.core import plots
from labsupport.core.files import LabError
from labsupport.sizes import counting
from labsupport.teaching.explorer_shell import Explorer, View

# PEFT saves float32; TRL, on a base in 4 bits, bfloat16.
FORMATS = {"float32 (PEFT)": "float32", "bfloat16 (TRL)": "bfloat16"}


def view(
    model: str = "smollm2-135m",
    rank: int = 16,
    targets: str | Iterable[str] = "all-linear",
    dora: bool = False,
    dtype: str = "float32",
) -> View:
    """Count one configuration. targets: a set such as "q+v" or names of the seven linear layers.

    LabError for an unknown model, rank, target or number format.
    """
    config = model_configs.find(model)
    base = counting.model_parameters(config)
    lora = counting.lora_by_module(config, rank, targets)
    header, tensors = counting.adapter_bytes(config, rank, targets, dora, dtype)
    magnitudes = counting.dora_by_module(config, targets) if dora else dict.fromkeys(lora, 0)
    trained = sum(lora.values()) + sum(magnitudes.values())
    heading = (
        f"{'DoRA' if dora else 'LoRA'} of rank {rank} trains {trained:,} of {base + trained:,} parameters "
        f"({100 * trained / (base + trained):.4f} %); its file is {(header + tensors) / 1e6:,.1f} MB "
        f"({header + tensors:,} bytes in {dtype})."
    )
    parts = counting.model_parts(config)
    shares = {name: 100 * lora[name] / parts[name] for name in counting.ALL_LINEAR if name in lora}
    rows = []
    for name, (inputs, outputs) in counting.block_shapes(config).items():
        share = f"{shares[name]:.2f} %" if name in shares else "-"
        shape = f"{inputs:,} to {outputs:,}"
        rows.append(row(name, shape, lora.get(name, 0), magnitudes.get(name, 0), share))
    layers = f"{config['num_hidden_layers']} layers"
    rows.append(row("all", layers, sum(lora.values()), sum(magnitudes.values()), ""))
    return View(heading, rows, *figure(model, rank, lora, magnitudes, shares))


def row(module: str, shape: str, lora: int, magnitudes: int, share: str) -> dict:
    return {
        "module": module,
        "inputs to outputs": shape,
        "A and B": f"{lora:,}",
        "magnitudes": f"{magnitudes:,}",
        "A and B, of the matrix": share,
    }


def figure(model: str, rank: int, lora: dict[str, int], magnitudes: dict[str, int], shares: dict[str, float]):
    """(figure, alt): parameters added to each matrix, all layers together. shares: % of the matrix."""
    names = counting.ALL_LINEAR[::-1]
    millions = [lora.get(name, 0) / 1e6 for name in names]
    extra = [magnitudes.get(name, 0) / 1e6 for name in names]
    totals = [a + b for a, b in zip(millions, extra, strict=True)]
    fig, axes = plots.figure(height=2.8, place=(0.22, 0.18, 0.75, 0.72))
    # Thick lines: one artist for seven bars, so that redraws stay quick.
    axes.hlines(range(7), 0, millions, color=plots.BLUE, linewidth=15)
    if any(extra):
        axes.hlines(range(7), millions, totals, color=plots.ORANGE, linewidth=15)
    axes.set(xlim=(0, 1.05 * max(totals)), ylim=(-0.6, 6.6))
    axes.set_yticks(range(7), [f"{n}  {shares[n]:5.2f} %" if n in shares else f"{n}  frozen" for n in names])
    axes.tick_params(axis="y", left=False)
    axes.grid(False, axis="y")
    axes.locator_params(axis="x", nbins=3)
    note = "; orange: DoRA's magnitudes" if any(extra) else ""  # in place of a legend: redraws stay quick
    axes.set_xlabel(f"trained parameters, all layers (millions){note}")
    axes.set_ylabel("module; A and B, % of its matrix")
    biggest = max(lora, key=lora.get)
    part = 100 * sum(lora.get(name, 0) for name in counting.MLP) / sum(lora.values())
    axes.set_title(f"{model}, rank {rank}: {part:.0f} % of the adapter is in the MLP")
    alt = (
        f"Bars of the parameters added to each of the seven matrices of {model} at rank {rank}; the longest "
        f"is {biggest} with {lora[biggest] / 1e6:.2f} million, {part:.0f} % of the adapter lies in the MLP."
    )
    return fig, alt


def render(model: str, rank: int, dora: bool, dtype: str, **ticked: bool) -> View:
    """The view that the controls ask for; `ticked` says of each module whether it is a target."""
    targets = [name for name, wanted in ticked.items() if wanted]
    if not targets:
        raise LabError("No target is chosen: tick at least one module, or nothing is trained.")
    return view(model, rank, targets, dora, dtype)


def explore(
    model: str = "smollm2-135m",
    rank: int = 16,
    targets: str | Iterable[str] = "all-linear",
    dora: bool = False,
    dtype: str = "float32",
) -> Explorer:
    """The calculator with its controls, started at these values. LabError if they are bad."""
    view(model, rank, targets, dora, dtype)
    controls = {
        "model": widgets.Dropdown(
            options=model_configs.llama_like(), value=model.lower(), description="model"
        ),
        "rank": widgets.BoundedIntText(value=rank, min=0, max=20_000, description="rank"),
        "dora": widgets.Checkbox(value=dora, description="DoRA", indent=False),
        "dtype": widgets.Dropdown(options=FORMATS, value=dtype, description="file in"),
    }
    for name in counting.ALL_LINEAR:
        chosen = name in counting.target_names(targets)
        controls[name] = widgets.Checkbox(value=chosen, description=name, indent=False)
    return Explorer(render, controls, "Parameter calculator")
