"""What `lab.py serve-check` found, in words and as JSON."""

from __future__ import annotations

from labsupport.core.files import short
from labsupport.preflight.report import counted, found, paragraph, verdict, visible
from labsupport.preflight.runner import Report
from labsupport.serve_checks import parity, vllm_facts
from labsupport.serve_checks.adapter_folder import Adapter


def in_words(report: Report, command: str | None, comparisons=None, served: str | None = None) -> str:
    """For a terminal: the adapter, each finding with its evidence, the replies compared, the command."""
    parts = [head(report.run), *map(paragraph, report.findings)]
    if comparisons:
        parts.append(agreement(comparisons, served))
    parts += report.run.notes
    if command:
        lines = command.replace("\n", "\n    ")
        parts.append(f"To serve it with vLLM (options of version {vllm_facts.VERSION}):\n\n    {lines}")
    return visible("\n\n".join([*parts, verdict(report)]))


def head(adapter: Adapter) -> str:
    """Which adapter it is."""
    if not adapter.is_lora:
        return f"{short(adapter.folder)}: {adapter.config.get('peft_type')}, base {adapter.base}"
    matrices = counted(len(adapter.pairs), "pair")
    return f"{short(adapter.folder)}: LoRA of rank {adapter.rank}, {matrices} of A and B, base {adapter.base}"


def agreement(comparisons: list[parity.Comparison], served: str) -> str:
    """How many replies agreed, way by way."""
    lines = []
    for way in ("chat", "completion"):
        mine = [one for one in comparisons if one.way == way]
        if mine:
            how = "token by token" if all(one.ids_compared for one in mine) else "by their text"
            agree = sum(one.same for one in mine)
            lines.append(f"{way}: {agree} of {len(mine):,} greedy replies agree, compared {how}")
    return f"The server's {served} beside transformers and PEFT in this process:\n  " + "\n  ".join(lines)


def as_document(report: Report, command: str | None, comparisons=None, served: str | None = None) -> dict:
    """For --json: only lists, dicts, strings, numbers and null."""
    adapter = report.run
    return {
        "adapter": str(adapter.folder),
        "base": adapter.base,
        "base_folder": None if adapter.base_folder is None else str(adapter.base_folder),
        "rank": adapter.rank if adapter.is_lora else None,
        "clean": report.clean,
        "findings": [found(one) for one in report.findings],
        "notes": list(adapter.notes),
        "looked_for": sorted(rule.id for rule in report.looked_for),
        "vllm_version": vllm_facts.VERSION,
        "command": command,
        "served": served,
        "replies": None if comparisons is None else parity.as_document(comparisons),
    }
