"""The cost of a run by an assumed share of the promised speed, as copies of earlier notebooks 05 check theirs
against. The course itself counts with labsupport.cost."""

from __future__ import annotations

import dataclasses
import types

from labsupport.cost import operations
from labsupport.setups.setup import Setup
from labsupport.sizes import gpus

UTILISATION, DEQUANTISATION, PARALLEL = (0.2, 0.4), (1.1, 1.5), (0.7, 0.9)


def compare(setup: Setup, rows: int, epochs: float, card: gpus.Card, rate: float, cards: int):
    """(QLoRA on one card, LoRA on several): objects with (least, most) hours and money."""

    def estimate(method: str, cards: int, slower=(1, 1), kept=(1, 1)):
        run = dataclasses.replace(setup, method=method)
        flops = round(rows * setup.length * epochs) * operations.flops_per_token(run)
        ideal = flops / (card.peak_tflops * 1e12 * cards) / 3600
        hours = (ideal * slower[0] / UTILISATION[1] / kept[1], ideal * slower[1] / UTILISATION[0] / kept[0])
        return types.SimpleNamespace(hours=hours, money=tuple(round(h * rate * cards, 4) for h in hours))

    return estimate("qlora", 1, slower=DEQUANTISATION), estimate("lora", cards, kept=PARALLEL)
