"""One pass over the data: every check sees every row, and as the trainer feeds it, every row or a sample."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from labsupport.findings.check import Check, Run
from labsupport.findings.finding import SEVERITIES, Finding, Rule, gathered
from labsupport.training_data.record import Record

# Files of checks, each with CHECKS and RULES.
ROW_CHECKS = ("form", "conversation", "text", "answer", "content", "privacy")
SUBJECTS = (
    *(f"row_checks.{subject}_checks" for subject in ROW_CHECKS),
    "copies.duplicate_checks",
    "token_checks.token_checks",
    "token_checks.template_checks",
    "settings_checks.recipe_checks",
    "settings_checks.resource_checks",
)
BATCH = 256  # rows turned into tokens together
CHARACTERS = 2**20  # fewer of long rows: tokens take many times the memory of their text
ALL_TOKENS = 20_000  # up to here each row is seen token by token (about 20 s)
THEN_EVERY = 50  # beyond, one row in so many


@dataclass
class Report:
    """What was looked at and what was found. findings: the worst first. looked_for: all rules there are."""

    run: Run
    findings: list[Finding] = field(default_factory=list)
    looked_for: list[Rule] = field(default_factory=list)

    def count(self, severity: str) -> int:
        """Kinds of findings of a severity."""
        return sum(finding.rule.severity == severity for finding in self.findings)

    @property
    def clean(self) -> bool:
        """No error and no warning."""
        return not (self.count("error") or self.count("warning"))


def subjects() -> list:
    """The modules of checks."""
    return [importlib.import_module(f"labsupport.{subject}") for subject in SUBJECTS]


def rules() -> list[Rule]:
    """All rules there are."""
    return [rule for module in subjects() for rule in module.RULES]


def inspect(
    run: Run, records: Iterable[Record], eval_records: Iterable[Record] = (), views: Callable | None = None
) -> Report:
    """Let all checks look at the rows, which are read once. Counts what it saw into `run`.

    views: makes of a list of records what the trainer makes of them, a View each; None without a tokenizer.
    """
    checks = [kind(run) for module in subjects() for kind in module.CHECKS]
    findings: dict[str, Finding] = {}
    for record in eval_records:
        run.eval_rows += 1
        for check in checks:
            gathered(findings, check.see_eval(record))
    for batch in batched(records, BATCH):
        for record in batch:
            run.rows += 1
            for check in checks:
                gathered(findings, check.see(record))
        if views is not None:
            chosen = [record for record in batch if is_sampled(record.number)]
            see_tokens(run, checks, findings, chosen, views)
    if run.rows > run.sampled > 0 and views is not None and run.rows > ALL_TOKENS:
        run.notes.append(
            f"Tokens: the first {ALL_TOKENS:,} rows and one in {THEN_EVERY} of the others were looked at "
            f"({run.sampled:,} of {run.rows:,})."
        )
    for check in checks:
        gathered(findings, check.end())
    worst_first = sorted(
        findings.values(), key=lambda found: (SEVERITIES.index(found.rule.severity), -found.count)
    )
    return Report(run, worst_first, rules())


def is_sampled(number: int) -> bool:
    """Whether the row of that number is looked at token by token."""
    return number <= ALL_TOKENS or number % THEN_EVERY == 0


def see_tokens(run: Run, checks: list[Check], findings: dict[str, Finding], records, views) -> None:
    """Show the checks the records as the trainer feeds them."""
    for few in by_length(records):
        for record, view in zip(few, views(few), strict=True):
            if view is None:  # a row that the trainer could not read
                continue
            run.sampled += 1
            run.tokens += len(view.ids)
            run.trained += sum(view.trained)
            run.longest = max(run.longest, view.full_length)
            for check in checks:
                gathered(findings, check.see_tokens(record, view))


def by_length(records: list[Record], most: int = CHARACTERS):
    """The records as lists of at most so many characters in all, of one record at least."""
    few, size = [], 0
    for record in records:
        length = len(record.whole)
        if few and size + length > most:
            yield few
            few, size = [], 0
        few.append(record)
        size += length
    if few:
        yield few


def batched(items: Iterable, size: int):
    """Lists of at most `size` items."""
    remaining = iter(items)
    while batch := list(itertools.islice(remaining, size)):
        yield batch
