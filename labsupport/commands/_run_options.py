"""What `lab.py plan` and `lab.py cost` both ask about a run. Options map to the fields of Setup."""

from __future__ import annotations

import argparse


def add(parser: argparse.ArgumentParser) -> None:
    """The options for the model, the method and checkpointing."""
    from labsupport.configs import model_configs
    from labsupport.setups import setup as runs

    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--model", help=f"one of {', '.join(model_configs.names())}, or its name on the Hugging Face hub"
    )
    which.add_argument("--config", help="any config.json of these families, or the folder that holds one")
    parser.add_argument("--method", default="lora", help=", ".join(runs.METHODS))
    parser.add_argument("--rank", type=int, default=16, help="of the adapters")
    parser.add_argument("--targets", default="all-linear", help="all-linear, or names joined by commas")
    parser.add_argument(
        "--checkpointing",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="keep each block's input only and compute the rest again backwards (default)",
    )


def setup(asked: argparse.Namespace, **others):
    """The Setup of what `add` asked for; others: the remaining fields. LabError for a bad model."""
    from labsupport.configs import model_configs
    from labsupport.setups import setup as runs

    return runs.Setup(
        config=model_configs.read(asked.config) if asked.model is None else runs.config_named(asked.model),
        method=asked.method,
        rank=asked.rank,
        targets=runs.split_targets(asked.targets),
        checkpointing=asked.checkpointing,
        **others,
    )
