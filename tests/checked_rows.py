"""What the checks of texts say of rows, with or without rows of an evaluation."""

from pathlib import Path

from seen_rows import FIXTURES, fixture, records

from labsupport.copies import duplicate_checks
from labsupport.findings.check import Run
from labsupport.findings.finding import Finding, gathered
from labsupport.row_checks import answer_checks, content_checks, privacy_checks, text_checks

MODULES = (text_checks, answer_checks, duplicate_checks, privacy_checks, content_checks)


def checked(rows: list[dict], eval_rows: list[dict] = ()) -> dict[str, Finding]:
    """Findings by rule."""
    run = Run(Path("rows.jsonl"), "prompt_completion", eval=Path("eval.jsonl") if eval_rows else None)
    checks = [kind(run) for module in MODULES for kind in module.CHECKS]
    found: dict[str, Finding] = {}
    for record in records(eval_rows) if eval_rows else ():
        run.eval_rows += 1
        for check in checks:
            gathered(found, check.see_eval(record))
    for record in records(rows):
        run.rows += 1
        for check in checks:
            gathered(found, check.see(record))
    for check in checks:
        gathered(found, check.end())
    return found


def checked_fixture(rule: str) -> dict[str, Finding]:
    """Findings in a rule's fixture, with its rows of an evaluation where it has any."""
    has_eval = (FIXTURES / f"{rule}.eval.jsonl").exists()
    return checked(fixture(rule), fixture(f"{rule}.eval") if has_eval else [])
