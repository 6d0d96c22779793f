"""The explorer of ranks: how much of a real update a rank keeps, beside an update of random signs."""

from __future__ import annotations

import functools

import ipywidgets as widgets
import numpy as np

from labsupport.core import plots
from labsupport.core.files import LabError
from labsupport.evaluation import experiments
from labsupport.sizes import counting
from labsupport.teaching.explorer_shell import Explorer, View
from labsupport.updates import spectra

ARMS = {
    "AdamW": {"optimizer": "adamw", "answers": "right", "tokens": "all"},
    "SGD": {"optimizer": "sgd", "answers": "right", "tokens": "all"},
    "AdamW, values alone": {"optimizer": "adamw", "answers": "right", "tokens": "values"},
    "AdamW, shuffled values": {"optimizer": "adamw", "answers": "shuffled", "tokens": "values"},
}


@functools.cache
def record() -> dict:
    """The published record, read once: arm -> metrics."""
    cells = experiments.published("spectrum")["cells"]
    return {arm: c["metrics"] for arm, settings in ARMS.items() for c in cells if c["cell"] == settings}


def recorded_update(arm: str, layer: int, module: str) -> tuple[list[float], list[int]]:
    """Singular values and shape (out, in) of an update. Raises LabError for what the record does not hold."""
    known = {
        "arm": (arm, list(ARMS)),
        "layer": (layer, spectra.KEPT_LAYERS),
        "module": (module, counting.ALL_LINEAR),
    }
    for what, (value, valid) in known.items():
        if value not in valid:
            raise LabError(f"Unknown {what} {value!r}. There are: {', '.join(map(str, valid))}.")
    metrics = record()[arm]
    shape = next(m["shape"] for m in metrics["matrices"] if (m["layer"], m["module"]) == (layer, module))
    return spectra.from_text(metrics["singular_values"][f"{layer}.{module}"]), shape


def view(arm: str = "AdamW", layer: int = 15, module: str = "q_proj", rank: int = 16) -> View:
    """How much of that update the rank keeps, in numbers and as a curve over all ranks."""
    values, (rows, columns) = recorded_update(arm, layer, module)
    counting.check_rank(rank, columns, rows)
    signs = spectra.of_random_signs(rows, columns)
    energy, random_energy = (100 * spectra.energy_curve(each) for each in (values, signs))
    kept, random_kept = energy[rank - 1], random_energy[rank - 1]
    rank_90, random_rank_90 = (spectra.rank_for_energy(each, 0.9) for each in (values, signs))
    heading = (
        f"Rank {rank} keeps {kept:.1f} % of the energy of this {rows} x {columns} update; "
        f"90 % takes rank {rank_90}."
    )
    table = [
        row("this update", kept, spectra.error_at(values, rank), rank_90),
        row("random signs", random_kept, spectra.error_at(signs, rank), random_rank_90),
    ]
    added, full = rank * (rows + columns), rows * columns
    table[0]["parameters"] = f"{added:,} of {full:,} ({100 * added / full:.1f} %)"
    alt = f"Energy kept over rank. {heading} Random signs keep {random_kept:.1f} % at that rank."
    return View(heading, table, figure(energy, random_energy, rank, f"{arm}, layer {layer}, {module}"), alt)


def row(name: str, kept: float, error: float, rank_90: int) -> dict:
    return {
        "": name,
        "energy kept": f"{kept:.1f} %",
        "relative error": f"{100 * error:.1f} %",
        "rank for 90 %": rank_90,
    }


def figure(energy: np.ndarray, random_energy: np.ndarray, rank: int, name: str):
    """Energy kept, in percent, over rank for the update and for random signs."""
    fig, axes = plots.figure(height=2.8, place=(0.08, 0.19, 0.9, 0.69))
    place = np.log2(np.arange(1, len(energy) + 1))  # a logarithmic axis draws half as fast
    axes.plot(place, energy, color=plots.BLUE, label=name)
    axes.plot(place, random_energy, color=plots.GREY, linestyle="--", label="random signs")
    axes.plot(place[rank - 1], energy[rank - 1], "o", color=plots.ORANGE, label=f"rank {rank}")
    powers = range(0, int(place[-1]) + 1, 2)  # few labels: text is most of a redraw
    axes.set_xticks(powers, [2**k for k in powers])
    axes.set_yticks([0, 50, 100])
    axes.set(xlabel="rank", ylabel="energy kept (%)", ylim=(0, 102))
    axes.set_title(f"Rank {rank} keeps {energy[rank - 1]:.0f} % of this update's energy")
    axes.legend(loc="upper left")
    return fig


def explore(arm: str = "AdamW", layer: int = 15, module: str = "q_proj", rank: int = 16) -> Explorer:
    """The explorer, starting at these values."""
    controls = {
        "arm": widgets.Dropdown(options=list(ARMS), value=arm, description="trained with"),
        "layer": widgets.Dropdown(options=list(spectra.KEPT_LAYERS), value=layer, description="layer"),
        "module": widgets.Dropdown(options=list(counting.ALL_LINEAR), value=module, description="module"),
        "rank": widgets.BoundedIntText(min=1, max=576, value=rank, description="rank"),
    }
    return Explorer(view, controls, "Rank against what is kept of a real update")
