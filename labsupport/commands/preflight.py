"""`lab.py preflight`."""

from __future__ import annotations

import argparse

HELP = "look for faults in the data and the settings of a fine-tune before paying for it"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Reads jsonl, json, csv or parquet in messages, prompt + completion, Alpaca, ShareGPT or text form. "
        "Status 0: no fault; 1: errors or warnings; 2: something that could not be read."
    )
    parser.add_argument("data", metavar="DATA", help="the training data")
    parser.add_argument("--config", metavar="FILE", help="TRL's settings, as YAML or JSON")
    parser.add_argument("--eval", metavar="FILE", help="the evaluation data, in the same form or another")
    parser.add_argument(
        "--model", help="whose tokenizer and template: a folder or a name on the Hugging Face hub"
    )
    parser.add_argument("--prompt-column", metavar="NAME", help="the column that holds the prompt")
    parser.add_argument("--completion-column", metavar="NAME", help="the column that holds the answer")
    parser.add_argument("--gpu", help="a card, as in `lab.py plan`: does it fit?")
    parser.add_argument("--rate", type=float, help="money an hour and card, any currency: what does it cost?")
    parser.add_argument("--fix", metavar="OUT", help="write a copy, with what needs no judgement mended")
    parser.add_argument("--html", metavar="OUT", help="write the report as a page to send to somebody")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")


def run(asked: argparse.Namespace) -> int:
    from pathlib import Path

    from labsupport.core.files import LabError, write_atomically
    from labsupport.preflight import page
    from labsupport.preflight.session import check_outputs, mended, opened

    check_outputs(asked)
    session = opened(asked)
    found = session.inspect()
    try:
        if asked.fix is not None:
            found.run.notes.append(mended(session, Path(asked.fix)))
        if asked.html is not None:
            write_atomically(Path(asked.html), page.page(found))
    except LabError:  # a full disk, say: what was found is told all the same
        tell(found, asked)
        raise
    tell(found, asked)
    return 0 if found.clean else 1


def tell(found, asked: argparse.Namespace) -> None:
    """Print the report."""
    import json

    from labsupport.preflight import report

    print(json.dumps(report.as_document(found), indent=1) if asked.json else report.in_words(found))
