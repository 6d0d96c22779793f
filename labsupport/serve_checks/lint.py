"""All checks of an adapter, in one report."""

from __future__ import annotations

from labsupport.findings.finding import SEVERITIES, Finding, gathered
from labsupport.preflight.runner import Report
from labsupport.serve_checks import base_checks, server_checks, tokenizer_checks, weight_checks
from labsupport.serve_checks.adapter_folder import Adapter

SUBJECTS = (server_checks, weight_checks, base_checks, tokenizer_checks)
# With these PEFT cannot load the adapter onto the base either, so there is nothing to compare replies with.
HINDER = {"another-base", "foreign-layers", "unpaired-matrix", "rank-differs", "no-matrix", "not-finite"}
HINDER |= {"tensor-names"}


def lint(adapter: Adapter) -> Report:
    """Let all checks look at the adapter, which is the report's `run`. The worst findings come first."""
    found: dict[str, Finding] = {}
    for subject in SUBJECTS:
        for check in subject.CHECKS:
            gathered(found, check(adapter))
    return Report(adapter, in_order(found.values()), [rule for one in SUBJECTS for rule in one.RULES])


def in_order(findings) -> list[Finding]:
    """The findings, errors before warnings before notes."""
    return sorted(findings, key=lambda found: SEVERITIES.index(found.rule.severity))


def hindrances(report: Report) -> list[str]:
    """Ids of the findings with which the adapter cannot be loaded."""
    return [found.rule.id for found in report.findings if found.rule.id in HINDER]
