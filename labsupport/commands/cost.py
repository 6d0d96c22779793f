"""`lab.py cost`."""

from __future__ import annotations

import argparse

from labsupport.commands import _run_options

HELP = "how long a fine-tune takes on a rented GPU, and what it costs"


def arguments(parser: argparse.ArgumentParser) -> None:
    from labsupport.sizes import gpus

    parser.epilog = (
        "The time of a step, from what a card computes, reads and launches, times the steps, times a rate. "
        "Nothing here was measured by this course; the ranges are held against published times."
    )
    _run_options.add(parser)
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--rows", type=int, help="how many rows are trained on")
    data.add_argument("--data", help="a JSON Lines file: its rows, at 4 characters a token")
    parser.add_argument("--tokens", type=int, default=512, help="tokens a row, with --rows")
    parser.add_argument(
        "--batch", type=int, default=4, help="rows a micro-batch and card, filled up to the longest"
    )
    parser.add_argument("--accumulation", type=int, default=1, help="micro-batches an optimizer step")
    parser.add_argument(
        "--packed", type=int, metavar="TOKENS", help="put the rows into rows of so many tokens"
    )
    parser.add_argument("--epochs", type=float, default=1.0, help="how often each row is seen")
    parser.add_argument("--gpu", required=True, help=", ".join(gpus.of_known_speed()))
    parser.add_argument("--gpus", type=int, default=1, help="how many of them")
    parser.add_argument("--rate", type=float, required=True, help="money an hour and card, any currency")
    parser.add_argument(
        "--compare", action="store_true", help="QLoRA on one card beside LoRA on --gpus cards"
    )
    parser.add_argument(
        "--evidence", action="store_true", help="published times beside what this model says of those runs"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")


def run(asked: argparse.Namespace) -> int:
    import dataclasses
    import json

    from labsupport.cost import cost_model, evidence
    from labsupport.setups.setup import checked
    from labsupport.sizes import gpus

    rows, length = _rows_and_length(asked)
    options = {"batch": asked.batch, "accumulation": asked.accumulation, "padded": asked.packed is None}
    setup = checked(_run_options.setup(asked, length=length, **options))
    card = gpus.find(asked.gpu)
    if asked.compare:
        costs = cost_model.compare(setup, rows, asked.epochs, card, asked.rate, max(2, asked.gpus))
    else:
        costs = (cost_model.estimate(setup, rows, asked.epochs, card, asked.rate, asked.gpus),)
    costs = tuple(
        dataclasses.replace(cost, assumptions=(*cost.assumptions, *_checked_there(setup, cost, card)))
        for cost in costs
    )
    documents = [dataclasses.asdict(cost) for cost in costs]
    if asked.json:
        print(json.dumps(documents if asked.compare else documents[0], indent=1))
    else:
        print(cost_model.report(costs))
        if asked.evidence:
            print("\n" + evidence.report())
    return 0


def _checked_there(setup, cost, card) -> list[str]:
    """What a published record says of the speed of one of the estimates, which are of one setup but for the
    method. Records are of one card."""
    import dataclasses

    from labsupport.gpu_checks import records
    from labsupport.setups.setup import checked

    if cost.gpus > 1:
        return []
    return records.said_of_speed(checked(dataclasses.replace(setup, method=cost.method)), card)


def _rows_and_length(asked: argparse.Namespace) -> tuple[int, int]:
    """Rows as the card sees them, and their tokens, filled up or packed. LabError for bad sizes."""
    import math

    from labsupport.core import numbers
    from labsupport.cost import data_file

    batch = numbers.whole(asked.batch, "batch")
    if asked.data:
        lengths = data_file.row_lengths(asked.data)
        rows, tokens, length = len(lengths), sum(lengths), data_file.padded_length(lengths, batch)
    else:
        rows, length = asked.rows, asked.tokens
        tokens = rows * length
    if asked.packed is None:
        return rows, length
    packed = numbers.whole(asked.packed, "packed (tokens a row)")
    return math.ceil(tokens / packed) if tokens > 0 else rows, packed
