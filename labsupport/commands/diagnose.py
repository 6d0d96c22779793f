"""`lab.py diagnose`."""

from __future__ import annotations

import argparse

HELP = "name the likely causes of a fine-tune that went wrong, from the trainer's output folder"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "RUN holds what trainer.save_model() and trainer.save_state() wrote, or is one checkpoint-N; "
        "train.jsonl, eval.jsonl, replies.jsonl and settings.yaml in it are found by their names. "
        "Nothing is written into it. "
        "Status 0: nothing found; 1: causes found; 2: something that could not be read."
    )
    parser.add_argument("run", metavar="RUN", help="the trainer's output folder, or a checkpoint-N in it")
    parser.add_argument("--data", metavar="FILE", help="the rows that were trained on")
    parser.add_argument("--eval", metavar="FILE", help="the evaluation's rows; with replies, each with an id")
    parser.add_argument(
        "--replies", metavar="FILE", help='what the model replied: {"id": ..., "reply": ...} a line, in order'
    )
    parser.add_argument("--model", metavar="BASE", help="the base model: a folder, or a name on the hub")
    parser.add_argument("--config", metavar="FILE", help="TRL's settings, where training_args.bin is missing")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")


def run(asked: argparse.Namespace) -> int:
    import json

    from labsupport.core import upstream
    from labsupport.diagnosis import report, verdict
    from labsupport.run_folders.run_folder import opened

    upstream.quiet_known_noise()
    run = opened(asked.run, asked.data, asked.eval, asked.replies, asked.model, asked.config)
    found = verdict.diagnosed(run)
    print(json.dumps(report.as_document(found), indent=1) if asked.json else report.in_words(found))
    return 1 if found.found else 0
