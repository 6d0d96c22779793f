"""The parameter calculator: what LoRA or DoRA trains on a model, which matrices grow, how big the file is."""

from __future__ import annotations

from collections.abc import Iterable

import ipywidgets as widgets

from labsupport.core import plots
from labsupport.models import counting, model_configs
from labsupport.teaching.explorer_shell import Explorer, View
from labsupport.core.files import LabError

FORMATS = {"float32 (PEFT saves this)": "float32", "bfloat16 (TRL on a 4-bit base)": "bfloat16"}


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
    method = "DoRA" if dora else "LoRA"
    heading = (
        f"{method} of rank {rank} trains {trained:,} of {base + trained:,} parameters "
        f"({100 * trained / (base + trained):.4f} %); its file is {(header + tensors) / 1e6:,.1f} MB "
        f"({header + tensors:,} bytes in {dtype})."
    )
    rows = table(config, lora, magnitudes)
    totals = {name: sum(column.values()) for name, column in (("adapter", lora), ("DoRA", magnitudes))}
    rows.append(_row("all", f"{config['num_hidden_layers']} layers", totals["adapter"], totals["DoRA"], ""))
    return View(heading, rows, *figure(model, config, rank, lora, magnitudes))


def table(config: dict, lora: dict[str, int], magnitudes: dict[str, int]) -> list[dict]:
    """One row for each of the seven modules, targets or not."""
    shapes, parts = counting.shapes(config), counting.model_parts(config)
    rows = []
    for name in counting.ALL_LINEAR:
        d_in, d_out = shapes[name]
        share = f"{100 * lora[name] / parts[name]:.2f} %" if name in lora else "-"
        shape = f"{d_in:,} to {d_out:,}"
        rows.append(_row(name, shape, lora.get(name, 0), magnitudes.get(name, 0), share))
    return rows


def _row(module: str, shape: str, lora: int, magnitudes: int, share: str) -> dict:
    return {
        "module": module,
        "inputs to outputs": shape,
        "A and B": f"{lora:,}",
        "magnitudes": f"{magnitudes:,}",
        "A and B, of the matrix": share,
    }


def figure(model: str, config: dict, rank: int, lora: dict[str, int], magnitudes: dict[str, int]):
    """(figure, alt): parameters added to each matrix, all layers together."""
    names = counting.ALL_LINEAR[::-1]
    millions = [lora.get(name, 0) / 1e6 for name in names]
    extra = [magnitudes.get(name, 0) / 1e6 for name in names]
    parts = counting.model_parts(config)
    shares = [f"{n}  {100 * lora[n] / parts[n]:5.2f} %" if n in lora else f"{n}  frozen" for n in names]
    fig, axes = plots.figure(height=2.8, place=(0.22, 0.18, 0.75, 0.72))
    # Thick lines: one artist for seven bars, so that redraws stay quick.
    axes.hlines(range(7), 0, millions, color=plots.BLUE, linewidth=15)
    totals = [a + b for a, b in zip(millions, extra, strict=True)]
    if any(extra):
        axes.hlines(range(7), millions, totals, color=plots.ORANGE, linewidth=15)
    axes.set(xlim=(0, 1.05 * max(totals)), ylim=(-0.6, 6.6))
    axes.set_yticks(range(7), shares)
    axes.tick_params(axis="y", left=False)
    axes.grid(False, axis="y")
    axes.locator_params(axis="x", nbins=3)
    biggest = max(lora, key=lora.get)
    part = 100 * sum(lora.get(name, 0) for name in counting.MLP) / sum(lora.values())
    note = "; orange: DoRA's magnitudes" if any(extra) else ""  # in place of a legend: redraws stay quick
    axes.set(xlabel=f"trained parameters, all layers (millions){note}")
    axes.set(ylabel="module; A and B, % of its matrix")
    axes.set_title(f"{model}, rank {rank}: {part:.0f} % of the adapter is in the MLP")
    alt = (
        f"Bars of the parameters added to each of the seven matrices of {model} at rank {rank}; the longest "
        f"is {biggest} with {lora[biggest] / 1e6:.2f} million, {part:.0f} % of the adapter lies in the MLP."
    )
    return fig, alt


def render(model: str, rank: int, dora: bool, dtype: str, **checked: bool) -> View:
    """The view that the controls ask for; `checked` says of each module whether it is a target."""
    targets = [name for name, wanted in checked.items() if wanted]
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
    chosen = counting.target_names(targets)
    controls = {
        "model": widgets.Dropdown(options=model_configs.names(), value=model.lower(), description="model"),
        "rank": widgets.BoundedIntText(value=rank, min=0, max=20_000, description="rank"),
        "dora": widgets.Checkbox(value=dora, description="DoRA", indent=False),
        "dtype": widgets.Dropdown(options=FORMATS, value=dtype, description="file in"),
    }
    controls |= {
        name: widgets.Checkbox(value=name in chosen, description=name, indent=False)
        for name in counting.ALL_LINEAR
    }
    return Explorer(render, controls, "Parameter calculator")
