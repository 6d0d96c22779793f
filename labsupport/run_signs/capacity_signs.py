"""Whether the adapter can hold what it was to store: answers that follow from nothing cost it their bits.

A language model stores about two bits of facts a parameter when it has seen each a thousand times, and one
when a hundred times (Allen-Zhu and Li 2024, "Physics of Language Models: Part 3.3, Knowledge Capacity Scaling
Laws").
"""

from __future__ import annotations

import statistics

from labsupport.core.text import number
from labsupport.run_folders.adapter_size import size_of
from labsupport.run_folders.causes import PROVES, SUGGESTS, Sign
from labsupport.run_folders.loss_curve import curve_of
from labsupport.run_rows.fed_rows import fed_rows
from labsupport.run_signs.log_signs import is_cross_entropy
from labsupport.run_signs.unguessable import bits_of, is_unguessable

WHERE = "adapter_model.safetensors"
LOST = 0.15  # share of the answers' bits that were not learned
FULL = 1.0  # bits a parameter: what a hundred repetitions store at best
FEW = 2  # the rank up to which published recipes are too small for knowledge ...
PLATEAU = 0.5  # of a bend: the loss no longer falls as it did


def signs(run) -> list[Sign]:
    """A sign where answers had to be learned by heart by a small adapter, and much of them was not."""
    size, curve = size_of(run), curve_of(run) if run.state else None
    records = [record for record in run.records("train") if record.answers]
    if size is None or curve is None or not curve.losses or not records or not is_cross_entropy(run):
        return []
    answers = list(dict.fromkeys(record.answers[-1] for record in records))
    if not is_unguessable(records, answers):
        return []
    bits = bits_of(answers)
    lost = left_over(run, curve.end) / bits if bits else 0.0
    held = len(answers) * bits / size.parameters
    flat = curve.bend is None or curve.bend < PLATEAU
    if lost < LOST or not (held >= FULL or (rank_of(run) <= FEW and flat)):
        return []
    text = (
        f"{len(answers):,} answers that follow from nothing, about {number(bits, 2)} bits each, are to be "
        f"held by {size.parameters:,} parameters (rank {rank_of(run)}, {targets_of(size)}): "
        f"{number(held, 2)} bits a parameter; at the end {number(100 * min(lost, 1), 2)} % of them are not "
        f"known (training loss {number(curve.end)})"
    )
    return [Sign("capacity-too-small", PROVES if held >= FULL and flat else SUGGESTS, text, WHERE)]


def left_over(run, loss: float) -> float:
    """Bits of an answer that a loss in nats a trained token leaves unknown."""
    rows = [row for row in fed_rows(run) if row.answer_left]
    trained = statistics.fmean(sum(row.view.trained) for row in rows) if rows else 0.0
    return loss * trained / 0.6931


def rank_of(run) -> int:
    """The rank; a large one where the configuration names none."""
    rank = run.adapter_config.get("r")
    return rank if isinstance(rank, int) else 10**6


def targets_of(size) -> str:
    """The kinds of module that are adapted."""
    names = sorted({pair.module.rpartition(".")[2] for pair in size.pairs})
    return f"on {', '.join(names)}"
