"""How far training moves the magnitudes and the directions of weights, and whether the two go together.

DoRA, section 3.2 (Liu et al. 2024): a weight is magnitudes times directions, one of each an output. Of two
states of a matrix, the mean change of its magnitudes is |m' - m| and the mean change of its directions 1 -
cos(w', w). Over layers and moments of a training, the paper finds them to rise together in LoRA (correlation
+0.83 over the query matrices of its model) and against each other in full fine-tuning (-0.62) and in DoRA
(-0.31).

PEFT and the authors' code have one magnitude a row of the weight (out, in), and so has this; the paper's
formula has columns.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from labsupport.core.files import LabError
from labsupport.models import weight_changes

# Of a matrix' median row. Shorter ones were zero and have been filled: their direction means nothing.
SMALLEST = 1e-3


def changes(before: dict[str, Tensor], after: dict[str, Tensor]) -> dict[str, tuple[float, float]]:
    """Name -> (mean change of the magnitudes, of the directions) of each matrix (out, in) in both states.

    LabError if they have no name in common.
    """
    names = [name for name in before if name in after]
    if not names:
        raise LabError("The two states have no matrix in common: give two of the same model.")
    found = {}
    for name in names:
        size = before[name].norm(dim=1)
        rows = size > SMALLEST * size.median()
        found[name] = weight_changes.magnitude_and_direction(before[name][rows], after[name][rows])
    return found


def correlation(points: list[tuple[float, float]]) -> float:
    """Pearson's correlation of (magnitude, direction) over layers and moments. LabError below 3 points."""
    if len(points) < 3:
        raise LabError(f"{len(points)} points: a correlation needs at least 3.")
    return float(torch.corrcoef(torch.tensor(points, dtype=torch.float64).T)[0, 1])


def weights(model) -> dict[str, Tensor]:
    """Name -> copy of each projection's weight, an adapter folded into it; the model stays as it is."""
    if hasattr(model, "merge_and_unload"):
        model = copy.deepcopy(model).merge_and_unload()
    return {name: p.detach().clone() for name, p in model.named_parameters() if name.endswith("_proj.weight")}


def watched(before: dict[str, Tensor], every: int, found: dict[str, dict[str, list[float]]]):
    """A trainer's callback that adds to `found`, after every so many steps, the `changes` since `before`: the
    step's number -> matrix -> the two, with four digits."""
    from transformers import TrainerCallback

    class Watch(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **others):
            if state.global_step % every == 0:
                pairs = changes(before, weights(model))
                found[str(state.global_step)] = {
                    name: [float(f"{value:.4g}") for value in pair] for name, pair in pairs.items()
                }

    return Watch()
