"""`lab.py plan`."""

from __future__ import annotations

import argparse

from labsupport.commands import _run_options

HELP = "how much GPU memory a fine-tune needs, and does it fit"


def arguments(parser: argparse.ArgumentParser) -> None:
    from labsupport.core import dtypes
    from labsupport.setups import setup as runs
    from labsupport.sizes import gpus

    parser.epilog = (
        "The real training step is traced on the meta device. Nothing here needs a GPU and nothing was "
        "measured on one: every figure for a card is a prediction."
    )
    _run_options.add(parser)
    parser.add_argument("--batch", type=int, default=4, help="rows a step")
    parser.add_argument("--seq", type=int, default=512, help="tokens a row")
    parser.add_argument("--dtype", default="bf16", help=", ".join(dtypes.SHORT_NAMES))
    parser.add_argument("--optim", default="adamw", help=", ".join(runs.OPTIMIZERS))
    parser.add_argument(
        "--trainer", default="sft", help="sft: TRL's SFTTrainer (default); plain: a loop with full logits"
    )
    parser.add_argument(
        "--supervised", type=float, default=1.0, help="the share of tokens trained on, for sft (default 1.0)"
    )
    parser.add_argument(
        "--autocast",
        action=argparse.BooleanOptionalAction,
        help="to bfloat16 (default: as the trainer has it)",
    )
    parser.add_argument(
        "--adapters",
        help=f"{' or '.join(runs.ADAPTERS)} (default: as the trainer has them, for sft on 4 bits bfloat16)",
    )
    parser.add_argument("--dropout", type=float, default=0.0, help="of the adapters' inputs (default 0)")
    parser.add_argument("--accumulation", type=int, default=1, help="micro-batches an optimizer step")
    parser.add_argument(
        "--double-quant",
        action=argparse.BooleanOptionalAction,
        help="quantise the scales of 4-bit weights as well (default)",
    )
    parser.add_argument(
        "--kbit-prep",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="prepare_model_for_kbit_training: what is not in 4 bits becomes float32",
    )
    rows = parser.add_mutually_exclusive_group()
    rows.add_argument(
        "--padded", action="store_true", default=True, help="rows of different lengths (default)"
    )
    rows.add_argument("--packed", dest="padded", action="store_false", help="full rows without a mask")
    parser.add_argument("--attention", default="sdpa", help=", ".join(runs.ATTENTIONS))
    parser.add_argument("--gpu", help=f"{', '.join(gpus.names())}, or a number of GiB")
    parser.add_argument(
        "--evidence",
        action="store_true",
        help="published measurements beside this planner's figures",
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")


def run(asked: argparse.Namespace) -> int:
    """0 also where it does not fit: that is an answer."""
    import dataclasses
    import json
    import sys

    from labsupport.gpu_checks import records
    from labsupport.planning import evidence, planner, prose
    from labsupport.setups.setup import checked
    from labsupport.sizes import gpus

    run = _run_options.setup(
        asked,
        batch=asked.batch,
        length=asked.seq,
        dtype=asked.dtype,
        optimizer=asked.optim,
        double_quantization=asked.double_quant,
        kbit_preparation=asked.kbit_prep,
        padded=asked.padded,
        attention=asked.attention,
        trainer=asked.trainer,
        supervised=asked.supervised,
        accumulation=asked.accumulation,
        autocast=asked.autocast,
        adapters=asked.adapters,
        dropout=asked.dropout,
    )
    setup = checked(run)
    card = None if asked.gpu is None else gpus.find(asked.gpu)
    if sys.stderr.isatty() and not asked.json:
        # At once, for whoever waits at a terminal; the trace needs torch and the libraries.
        print(prose.by_hand(setup), file=sys.stderr, flush=True)
    found = planner.plan(setup, card)
    if checked_there := records.said_of_memory(setup, card):
        kept = (line for line in found.assumptions if not line.startswith(evidence.UNVERIFIED))
        found = dataclasses.replace(found, assumptions=(*kept, *checked_there))
    print(json.dumps(dataclasses.asdict(found), indent=1) if asked.json else prose.report(found))
    if asked.evidence and not asked.json:
        print("\n" + evidence.report(setup))
    return 0
