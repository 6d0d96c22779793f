"""`lab.py serve-check`."""

from __future__ import annotations

import argparse

HELP = "look for what keeps an adapter from being served as it was trained, and test a running server"


def arguments(parser: argparse.ArgumentParser) -> None:
    from labsupport.serve_checks import vllm_facts

    parser.epilog = (
        "ADAPTER is the folder that PEFT's save_pretrained wrote. With --url the server's greedy replies are "
        "compared with those of transformers and PEFT here. Status 0: no fault; 1: errors or warnings; 2: "
        "something that could not be read."
    )
    parser.add_argument("adapter", metavar="ADAPTER", help="the adapter's folder")
    parser.add_argument(
        "--base", metavar="MODEL", help="its base model: a folder, or a name in the hub's cache"
    )
    parser.add_argument(
        "--max-lora-rank",
        type=int,
        default=vllm_facts.DEFAULT_RANK,
        metavar="RANK",
        help=f"the server's limit (vLLM's own: {vllm_facts.DEFAULT_RANK})",
    )
    parser.add_argument("--url", help="a running OpenAI-compatible server, such as http://localhost:8000")
    parser.add_argument("--served", metavar="NAME", help="what the server calls the adapter")
    parser.add_argument(
        "--prompts", metavar="FILE", help="rows to ask; else prompts.jsonl beside the adapter"
    )
    parser.add_argument("--tokens", type=int, default=32, help="the longest reply that is compared")
    parser.add_argument("--key-variable", metavar="NAME", help="environment variable with the server's key")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")


def run(asked: argparse.Namespace) -> int:
    from labsupport.core import numbers, upstream
    from labsupport.serve_checks import adapter_folder, commands, lint
    from labsupport.serve_checks.prompts import prompts_for

    upstream.quiet_known_noise()
    limit = numbers.whole(asked.max_lora_rank, "--max-lora-rank")
    tokens = numbers.whole(asked.tokens, "--tokens", most=4096)
    adapter = adapter_folder.opened(asked.adapter, asked.base, limit)
    prompts = prompts_for(adapter.folder, asked.prompts) if asked.url is not None else []
    report = lint.lint(adapter)
    command = None if report.count("error") else commands.written(adapter, asked.served)
    if asked.url is None or not can_be_tested(report):
        tell(asked, report, command)
        return 0 if report.clean else 1
    from labsupport.core.files import LabError
    from labsupport.serve_checks import parity

    try:
        comparisons, found, served = parity.tested(
            adapter, asked.url, asked.served, prompts, tokens, asked.key_variable
        )
    except LabError:  # no server, say: what was found is told all the same
        tell(asked, report, command)
        raise
    report.findings = lint.in_order([*report.findings, *found])
    report.looked_for += parity.RULES
    tell(asked, report, command, comparisons, served)
    return 0 if report.clean else 1


def can_be_tested(report) -> bool:
    """Whether there are replies of our own to compare with; a note says why not."""
    from labsupport.serve_checks import lint

    adapter = report.run
    if adapter.base_folder is None:
        adapter.notes.append("Replies were not compared: the base model is not here. Give --base.")
    elif reasons := lint.hindrances(report):
        adapter.notes.append(f"Replies were not compared: see {', '.join(reasons)}.")
    else:
        return True
    return False


def tell(asked: argparse.Namespace, report, command, comparisons=None, served=None) -> None:
    """Print the report."""
    import json

    from labsupport.serve_checks import report as reports

    what = (report, command, comparisons, served)
    text = json.dumps(reports.as_document(*what), indent=1) if asked.json else reports.in_words(*what)
    print(text)
