"""`lab.py cost`."""

from __future__ import annotations

import argparse

from labsupport.commands import _run_options

HELP = "how long a fine-tune takes on a rented GPU, and what it costs"


def arguments(parser: argparse.ArgumentParser) -> None:
    from labsupport.sizes import gpus

    parser.epilog = (
        "Operations of the fine-tune, over what a card really sustains, times a rate. Nothing here was "
        "measured on a GPU. A range is given because utilisation is one."
    )
    _run_options.add(parser)
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--rows", type=int, help="how many rows are trained on")
    data.add_argument("--data", help="a JSON Lines file: its rows, at 4 characters a token")
    parser.add_argument("--tokens", type=int, default=512, help="tokens a row, with --rows")
    parser.add_argument("--epochs", type=float, default=1.0, help="how often each row is seen")
    parser.add_argument("--gpu", required=True, help=", ".join(gpus.names()))
    parser.add_argument("--gpus", type=int, default=1, help="how many of them")
    parser.add_argument("--rate", type=float, required=True, help="money an hour and card, any currency")
    parser.add_argument(
        "--compare", action="store_true", help="QLoRA on one card beside LoRA on --gpus cards"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")


def run(asked: argparse.Namespace) -> int:
    import dataclasses
    import json

    from labsupport.cost import cost_model, data_file
    from labsupport.memory.setup import checked
    from labsupport.sizes import gpus

    rows, tokens = asked.rows, asked.tokens
    if asked.data:
        lengths = data_file.row_lengths(asked.data)
        rows, tokens = len(lengths), max(1, round(sum(lengths) / len(lengths)))
    setup = checked(_run_options.setup(asked, length=tokens))
    card = gpus.find(asked.gpu)
    if asked.compare:
        costs = cost_model.compare(setup, rows, asked.epochs, card, asked.rate, max(2, asked.gpus))
    else:
        costs = (cost_model.estimate(setup, rows, asked.epochs, card, asked.rate, asked.gpus),)
    documents = [dataclasses.asdict(cost) for cost in costs]
    if asked.json:
        print(json.dumps(documents if asked.compare else documents[0], indent=1))
    else:
        print(cost_model.report(costs))
    return 0
