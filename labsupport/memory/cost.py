"""How long and how much money: operations of a fine-tune, over what a card really sustains, times a rate.

Nothing here was measured on a GPU. A range is given because utilisation is one.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path

from labsupport.core.files import LabError, short
from labsupport.memory import closed_form, planner
from labsupport.models import counting, gpus, model_configs

# Share of the promised arithmetic that fine-tuning sustains on one card. An assumption: the MPT training
# benchmarks (mosaicml/llm-foundry, scripts/train/benchmarking/README.md) report 26 to 47 % for pretraining in
# bf16 on H100s; short rows and small batches do worse.
UTILISATION = (0.2, 0.4)
DEQUANTISATION = (1.1, 1.5)  # how much longer a 4-bit step takes: an assumption, not measured on a GPU
PARALLEL = (0.7, 0.9)  # share of ideal speed that several cards keep: an assumption


@dataclass(frozen=True)
class Cost:
    """flops of the whole run; (least, most) hours and money, in the currency of the rate."""

    method: str
    gpu: str
    gpus: int
    tokens: int
    flops: float
    hours: tuple[float, float]
    money: tuple[float, float]
    formula: str
    assumptions: tuple[str, ...]


def weights_in_products(config: dict) -> tuple[int, int]:
    """(block weights, output head's weights) that a token is multiplied with; embeddings are looked up."""
    blocks = config["num_hidden_layers"] * sum(a * b for a, b in counting.block_shapes(config).values())
    return blocks, config["vocab_size"] * config["hidden_size"]


def flops_per_token(setup: planner.Setup) -> float:
    """Operations of one training step for one token.

    2 a weight forwards and 2 backwards for the inputs' gradients; 2 more where the weight itself is trained
    (all of it, or the adapters); 2 again forwards with checkpointing, blocks only. Attention scores: 2 x 2
    x row length x query width a block forwards, halved because it looks back only, twice that backwards.
    """
    blocks, head = weights_in_products(setup.config)
    adapters = 0 if setup.method == "full" else closed_form.trainable_parameters(setup)
    forward = 2 * (blocks + adapters)
    query = counting.block_shapes(setup.config)["q_proj"][1]
    forward += setup.config["num_hidden_layers"] * 2 * setup.length * query
    backward = 2 * forward - (2 * blocks if setup.method != "full" else 0)
    head_products = 2 * head * (3 if setup.method == "full" else 2)
    return forward * (2 if setup.checkpointing else 1) + backward + head_products


def estimate(
    setup: planner.Setup, rows: int, epochs: float, card: gpus.Card, rate: float, cards: int = 1
) -> Cost:
    """Cost of `epochs` over `rows` of setup.length tokens at `rate` an hour and card. Raises LabError."""
    for name, value in (("rows", rows), ("epochs", epochs), ("gpus", cards)):
        if not (math.isfinite(value) and value > 0):
            raise LabError(f"{name} is {value}: it must be above 0.")
    if not (math.isfinite(rate) and rate >= 0):
        raise LabError(f"The hourly rate is {rate}: it cannot be below 0.")
    if card.peak_tflops is None:
        raise LabError(f"The speed of {card.name} is not known: name one of {', '.join(gpus.names())}.")
    tokens = round(rows * setup.length * epochs)
    flops = tokens * flops_per_token(setup)
    slow, fast = DEQUANTISATION[::-1] if setup.four_bit else (1, 1)
    share = PARALLEL if cards > 1 else (1, 1)
    ideal = flops / (card.peak_tflops * 1e12 * cards) / 3600
    hours = (ideal * fast / UTILISATION[1] / share[1], ideal * slow / UTILISATION[0] / share[0])
    return Cost(
        method=setup.method,
        gpu=card.sold_as,
        gpus=cards,
        tokens=tokens,
        flops=flops,
        hours=hours,
        money=tuple(round(value * rate * cards, 4) for value in hours),
        formula="hours = tokens x operations a token / (gpus x peak x utilisation x parallel share) / 3600, "
        "x dequantisation for 4 bits; money = hours x gpus x rate",
        assumptions=tuple(_assumptions(setup, card, cards)),
    )


def _assumptions(setup: planner.Setup, card: gpus.Card, cards: int) -> list[str]:
    found = [
        f"{card.sold_as}: {card.peak_tflops:g} TFLOP/s promised, {_percent(UTILISATION)} of it sustained.",
        f"{flops_per_token(setup):.3g} operations a token; loading, evaluation and set-up are extra.",
    ]
    if setup.four_bit:
        found.append(
            f"4 bits: {DEQUANTISATION[0]} to {DEQUANTISATION[1]} times the time. {planner.UNVERIFIED}"
        )
    if cards > 1:
        found.append(f"{cards} cards keep {_percent(PARALLEL)} of the ideal speed-up.")
    return found


def _percent(pair: tuple[float, float]) -> str:
    return f"{pair[0]:.0%} to {pair[1]:.0%}"


def compare(setup: planner.Setup, rows: int, epochs: float, card: gpus.Card, rate: float, cards: int):
    """The exercise of the day-078 page: QLoRA on one card beside 16-bit LoRA on several. Two Costs."""
    single = dataclasses.replace(setup, method="qlora")
    several = dataclasses.replace(setup, method="lora")
    return [
        estimate(single, rows, epochs, card, rate),
        estimate(several, rows, epochs, card, rate, cards),
    ]


def row_lengths(path: str | Path) -> list[int]:
    """Tokens of each row of a JSON Lines file, at 4 characters a token. LabError if unreadable."""
    path = Path(path)
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        rows = [json.loads(line) for line in lines]
    except OSError as error:
        raise LabError(f"Cannot read {short(path)}: {error.strerror or error}.") from error
    except ValueError as error:
        raise LabError(f"{short(path)} is not JSON Lines: {error}.") from error
    if not rows:
        raise LabError(f"{short(path)} holds no rows.")
    return [max(1, math.ceil(_characters(row) / 4)) for row in rows]


def _characters(value) -> int:
    if isinstance(value, dict):
        return sum(map(_characters, value.values()))
    if isinstance(value, list):
        return sum(map(_characters, value))
    return len(str(value))


def report(costs: list[Cost]) -> str:
    """The estimates in words."""
    lines = []
    for cost in costs:
        lines.append(
            f"{cost.method:7} on {cost.gpus} x {cost.gpu}: {cost.flops:.3g} FLOP for {cost.tokens:,} tokens, "
            f"{cost.hours[0]:.2g} to {cost.hours[1]:.2g} hours, "
            f"{cost.money[0]:.2f} to {cost.money[1]:.2f} in the currency of the rate"
        )
        lines += [f"  - {line}" for line in cost.assumptions]
    return "\n".join([*lines, "", costs[0].formula])


def parser() -> argparse.ArgumentParser:
    """The command line of `lab.py cost`."""
    found = argparse.ArgumentParser(prog="lab.py cost", description=__doc__)
    which = found.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", help=f"one of {', '.join(model_configs.names())}")
    which.add_argument("--config", help="any config.json of a Llama-like model")
    found.add_argument("--method", default="lora", help=", ".join(planner.METHODS))
    found.add_argument("--rank", type=int, default=16)
    found.add_argument("--targets", default="all-linear", help="all-linear, or names joined by commas")
    data = found.add_mutually_exclusive_group(required=True)
    data.add_argument("--rows", type=int)
    data.add_argument("--data", help="a JSON Lines file: its rows, at 4 characters a token")
    found.add_argument("--tokens", type=int, default=512, help="tokens a row, with --rows")
    found.add_argument("--epochs", type=float, default=1.0)
    found.add_argument("--checkpointing", action=argparse.BooleanOptionalAction, default=True)
    found.add_argument("--gpu", required=True, help=", ".join(gpus.names()))
    found.add_argument("--gpus", type=int, default=1, help="how many of them")
    found.add_argument("--rate", type=float, required=True, help="money an hour and card, any currency")
    found.add_argument("--compare", action="store_true", help="QLoRA on one card beside LoRA on --gpus cards")
    found.add_argument("--json", action="store_true", help="one JSON document on standard output")
    return found


def main(arguments: list[str]) -> int:
    """`lab.py cost`. LabError for bad input."""
    asked = parser().parse_args(arguments)
    config = model_configs.read(asked.config) if asked.config else planner.named(asked.model)
    rows, tokens = asked.rows, asked.tokens
    if asked.data:
        lengths = row_lengths(asked.data)
        rows, tokens = len(lengths), max(1, round(sum(lengths) / len(lengths)))
    setup = planner.Setup(
        config=config,
        method=asked.method,
        rank=asked.rank,
        targets=planner.split_targets(asked.targets),
        length=tokens,
        checkpointing=asked.checkpointing,
    )
    planner.check(setup)
    card = gpus.find(asked.gpu)
    if asked.compare:
        costs = compare(setup, rows, asked.epochs, card, asked.rate, max(2, asked.gpus))
    else:
        costs = [estimate(setup, rows, asked.epochs, card, asked.rate, asked.gpus)]
    documents = [dataclasses.asdict(cost) for cost in costs]
    if asked.json:
        print(json.dumps(documents if asked.compare else documents[0], indent=1))
    else:
        print(report(costs))
    return 0
