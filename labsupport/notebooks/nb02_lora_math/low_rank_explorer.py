"""Explorer of notebook 02: how much of a real update a rank keeps, beside an update of random signs."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import ipywidgets as widgets
import numpy as np

from labsupport.core import plots
from labsupport.evaluation import experiments
from labsupport.models import counting, lora
from labsupport.notebooks.nb02_lora_math import spectrum_experiment
from labsupport.teaching.explorer_shell import Explorer, View
from labsupport.core.files import LabError

ARMS = {
    "AdamW": {"optimizer": "adamw", "answers": "right"},
    "SGD": {"optimizer": "sgd", "answers": "right"},
    "AdamW, shuffled answers": {"optimizer": "adamw", "answers": "shuffled"},
}


@dataclass(frozen=True)
class Cut:
    """An update cut to a rank: shares of energy and relative errors in 0..1, parameters as counts."""

    shape: tuple[int, int]
    rank: int
    energy: np.ndarray  # kept by rank 1, 2, ...
    random_energy: np.ndarray  # the same for random signs
    error: float
    random_error: float
    rank_90: int
    random_rank_90: int

    @property
    def kept(self) -> float:
        return float(self.energy[self.rank - 1])

    @property
    def random_kept(self) -> float:
        return float(self.random_energy[self.rank - 1])

    @property
    def parameters(self) -> int:
        return self.rank * sum(self.shape)


@functools.cache
def record() -> dict:
    """The published record, read once: arm -> metrics."""
    cells = experiments.published("spectrum")["cells"]
    return {arm: c["metrics"] for arm, settings in ARMS.items() for c in cells if c["cell"] == settings}


def cut(arm: str, layer: int, module: str, rank: int) -> Cut:
    """One matrix of one arm, cut. Raises LabError for what the record does not hold or a bad rank."""
    known = {
        "arm": (arm, list(ARMS)),
        "layer": (layer, spectrum_experiment.LAYERS),
        "module": (module, spectrum_experiment.MODULES),
    }
    for what, (value, valid) in known.items():
        if value not in valid:
            raise LabError(f"Unknown {what} {value!r}. There are: {', '.join(map(str, valid))}.")
    metrics = record()[arm]
    shape = next(m["shape"] for m in metrics["matrices"] if (m["layer"], m["module"]) == (layer, module))
    counting.check_rank(rank, *shape[::-1])
    values = spectrum_experiment.from_text(metrics["singular_values"][f"{layer}.{module}"])
    random = lora.random_spectrum(*shape)
    both = (values, random)
    curves = [lora.energy_curve(each) for each in both]
    errors = [lora.error_at(each, rank) for each in both]
    ranks = [lora.rank_for_energy(each, 0.9) for each in both]
    return Cut(tuple(shape), rank, *curves, *errors, *ranks)


def view(arm: str = "AdamW", layer: int = 15, module: str = "q_proj", rank: int = 16) -> View:
    """How much of that update the rank keeps, in numbers and as a curve over all ranks."""
    found = cut(arm, layer, module, rank)
    out_features, in_features = found.shape
    heading = (
        f"Rank {rank} keeps {100 * found.kept:.1f} % of the energy of this {out_features} x {in_features} "
        f"update; 90 % takes rank {found.rank_90}."
    )
    table = [
        row("this update", found.kept, found.error, found.rank_90),
        row("random signs", found.random_kept, found.random_error, found.random_rank_90),
    ]
    full = out_features * in_features
    table[0]["parameters"] = f"{found.parameters:,} of {full:,} ({100 * found.parameters / full:.1f} %)"
    alt = f"Energy kept over rank. {heading} Random signs keep {100 * found.random_kept:.1f} % at that rank."
    return View(heading, table, figure(found, f"{arm}, layer {layer}, {module}"), alt)


def row(name: str, kept: float, error: float, rank_90: int) -> dict:
    return {
        "": name,
        "energy kept": f"{100 * kept:.1f} %",
        "relative error": f"{100 * error:.1f} %",
        "rank for 90 %": rank_90,
    }


def figure(found: Cut, name: str):
    """Energy kept over rank for the update and for random signs."""
    fig, axes = plots.figure(height=2.8, place=(0.08, 0.19, 0.9, 0.69))
    place = np.log2(np.arange(1, len(found.energy) + 1))  # a logarithmic axis draws half as fast
    axes.plot(place, 100 * found.energy, color=plots.BLUE, label=name)
    axes.plot(place, 100 * found.random_energy, color=plots.GREY, linestyle="--", label="random signs")
    axes.plot(place[found.rank - 1], 100 * found.kept, "o", color=plots.ORANGE, label=f"rank {found.rank}")
    powers = range(0, int(place[-1]) + 1, 2)  # few labels: text is most of a redraw
    axes.set_xticks(powers, [2**k for k in powers])
    axes.set_yticks([0, 50, 100])
    axes.set(xlabel="rank", ylabel="energy kept (%)", ylim=(0, 102))
    axes.set_title(f"Rank {found.rank} keeps {100 * found.kept:.0f} % of this update's energy")
    axes.legend(loc="upper left")
    return fig


def explore(arm: str = "AdamW", layer: int = 15, module: str = "q_proj", rank: int = 16) -> Explorer:
    """The explorer, starting at these values."""
    controls = {
        "arm": widgets.Dropdown(options=list(ARMS), value=arm, description="trained with"),
        "layer": widgets.Dropdown(options=list(spectrum_experiment.LAYERS), value=layer, description="layer"),
        "module": widgets.Dropdown(options=list(spectrum_experiment.MODULES), value=module, description="module"),
        "rank": widgets.BoundedIntText(min=1, max=576, value=rank, description="rank"),
    }
    return Explorer(view, controls, "Rank against what is kept of a real update")
