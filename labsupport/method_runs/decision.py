"""Which method when: each line with what was measured for it, computed from the records, or with the word
"opinion"."""

from __future__ import annotations

import statistics

from labsupport.configs import model_configs
from labsupport.core.tables import Table
from labsupport.evaluation import experiments, intervals
from labsupport.method_runs import dora_cost, ranks, reading, scales


def bits(record: dict, method: str) -> str:
    """Bits that a method stores, in the mean over seeds."""
    found = reading.values(record, "bits", method=method, budget="steps").values()
    return f"{statistics.fmean(found):,.0f} bits"


def more(record: dict, words: str) -> str:
    """One of the four differences of `scales`, in bits."""
    ours, theirs = scales.PAIRS[words]
    return intervals.shown(reading.versus(record, "bits", ours, base=theirs), "+,.0f")


def with_more_steps(longer: dict, *chosen: str) -> str:
    """What methods store in the longer runs."""
    return " and ".join(bits(longer, method) for method in chosen)


def forward(record: dict, method: str, way: str = "unmerged") -> str:
    """Times the bare base's forward pass."""
    return f"{reading.forward_ratio(record, method, way):.1f} times"


def lines(record: dict, by_rank: dict, longer: dict) -> list[list[str]]:
    """[the situation, the choice, the evidence] of each line."""
    llama = model_configs.find("llama-3.1-8b")
    small, least = (reading.of_any(record, method, "parameters") for method in ("vera", "ia3"))
    dropout = 100 * dora_cost.extra(llama, 2048, 0.05)
    lowest = min(ranks.ranks(by_rank))
    low = intervals.shown(ranks.gap(by_rank, lowest), "+,.0f")
    return [
        [
            "a first run",
            "LoRA on all linear layers",
            f"DoRA for LoRA: {more(record, 'DoRA, at scale 2')} bits, "
            f"{more(record, 'DoRA, at scale 8')} at scale 8",
        ],
        [
            "quality is not enough, time for a sweep",
            "the learning rate, then alpha; methods last",
            f"scale 8 for 2: {more(record, 'scale 8 for 2, LoRA')} bits in 130 steps",
        ],
        [
            "the loss still falls at the end",
            "more steps, before another method",
            f"in 390 steps LoRA and PiSSA store {with_more_steps(longer, 'lora', 'pissa')}; in 130 "
            f"{with_more_steps(record, 'lora', 'pissa')}",
        ],
        [
            "the weights do not fit",
            "QLoRA",
            "notebook 08: half a nat an answer on the 135M model",
        ],
        [
            "memory for everything, much to learn",
            "full fine-tuning, at a rate of its own",
            f"in 130 steps {bits(record, 'full')}, LoRA {bits(record, 'lora')}, in 390 as much as LoRA",
        ],
        [
            "thousands of adapters to be kept",
            "VeRA with save_projection=False, or IA3",
            f"in 390 steps {bits(longer, 'vera')} with {small:,} parameters, "
            f"{bits(longer, 'ia3')} with {least:,}",
        ],
        [
            "the adapter stays beside the weights",
            "LoRA",
            f"a forward pass {forward(record, 'lora')} the base's, DoRA {forward(record, 'dora')}, "
            f"VeRA {forward(record, 'vera')}",
        ],
        [
            "DoRA, for whatever reason",
            "with lora_dropout=0, and merged before it serves",
            f"dropout: {dropout:+.0f} % operations; merged {forward(record, 'dora', 'merged')} the base's",
        ],
        [
            f"the rank must be tiny ({lowest})",
            "tune the rate before you take DoRA",
            f"DoRA for LoRA, each at its best rate: {low} bits",
        ],
        [
            "a product that others serve",
            "LoRA, for every server knows it",
            "vLLM 0.33.0 refuses DoRA, by its source: lab.py serve-check",
        ],
        [
            "only a prompt may change",
            "a better prompt before prompt tuning",
            f"opinion; here {bits(record, 'prompt')}, in 390 steps {bits(longer, 'prompt')}",
        ],
    ]


def table() -> Table:
    """The lines, from the published records."""
    records = [experiments.published(f"method_{name}") for name in ("comparison", "ranks", "longer")]
    found = lines(*records)
    return Table(["you have", "take", "because"], found, "Which method when, from this notebook's runs")
