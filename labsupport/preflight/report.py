"""A report in words, and as JSON."""

from __future__ import annotations

import re
import textwrap

from labsupport.core.files import short
from labsupport.core.text import number
from labsupport.findings.finding import Evidence, Finding
from labsupport.preflight.runner import Report

WIDE = 100  # characters of a line
MARKS = "«»"  # around tokens that are trained on, in plain text
# What moves a terminal's cursor, turns the text round, or is no character by itself: a row may hold anything.
HARMFUL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def in_words(report: Report) -> str:
    """The report for a terminal: what was looked at, each finding with its evidence, why and fix, a count."""
    marks = f", marked {MARKS[0]}so{MARKS[1]} below"
    parts = [head(report, marks), *map(paragraph, report.findings), *report.run.notes, verdict(report)]
    return visible("\n\n".join(parts))


def visible(text: str) -> str:
    """The text with what would harm a terminal or a file written out, \\x1b for example."""
    return HARMFUL.sub(lambda found: repr(found[0])[1:-1], text)


def head(report: Report, marks: str = "") -> str:
    """One or two lines: file, rows, form, tokens. marks: how those that are trained on are marked."""
    run = report.run
    lines = [f"{short(run.data)}: {counted(run.rows, 'row')}, {run.form.replace('_', ' + ')}"]
    if run.eval is not None:
        lines[0] += f"; {short(run.eval)}: {counted(run.eval_rows, 'row')} for evaluation"
    if run.sampled:
        lines.append(
            f"{number(run.tokens / run.sampled)} tokens a row on average, {number(run.longest)} in the "
            f"longest; {share(run.trained, run.tokens)} of them are trained on{marks}"
        )
    return "\n".join(lines)


def paragraph(finding: Finding) -> str:
    """A finding: severity, id and count, then evidence, why and fix."""
    rule = finding.rule
    places = counted(finding.count, "place") if finding.evidence[0].where or finding.count > 1 else ""
    lines = [f"{rule.severity} {rule.id}" + (f": {places}" if places else "")]
    lines += [indented(piece) for evidence in finding.evidence for piece in pieces(evidence)]
    if finding.count > len(finding.evidence):
        lines.append(f"  ... and {finding.count - len(finding.evidence):,} more")
    return "\n".join([*lines, indented(f"Why: {rule.why}"), indented(f"Fix: {rule.fix}")])


def pieces(evidence: Evidence) -> list[str]:
    """The lines of a piece of evidence."""
    lines = [f"{evidence.where}: {evidence.text}" if evidence.where else evidence.text]
    if evidence.tokens:
        lines.append(marked(evidence.tokens))
    return lines


def marked(tokens) -> str:
    """Decoded tokens as one text, what is trained on between marks; line breaks are written out."""
    text, inside = "", False
    for token, trained in tokens:
        if trained != inside:
            text += MARKS[0] if trained else MARKS[1]
            inside = trained
        text += token.replace("\n", "\\n")
    return text + (MARKS[1] if inside else "")


def indented(text: str) -> str:
    """The text below its heading, its lines not too long."""
    return textwrap.fill(text, WIDE, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)


def counted(count: int, what: str) -> str:
    """1 row, 1,200 rows."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def share(part: int, whole: int) -> str:
    """A share in percent."""
    return f"{number(100 * part / whole) if whole else 0} %"


def verdict(report: Report) -> str:
    """The last line."""
    kinds = [counted(report.count(severity), severity) for severity in ("error", "warning", "note")]
    looked = f"{len(report.looked_for)} kinds of fault were looked for."
    if report.clean:
        return f"No fault was found ({kinds[2]}). {looked}"
    return f"{', '.join(kinds[:2])} and {kinds[2]}. {looked}"


def as_document(report: Report) -> dict:
    """The report for --json: only lists, dicts, strings, numbers and null."""
    run = report.run
    return {
        "data": str(run.data),
        "eval": None if run.eval is None else str(run.eval),
        "form": run.form,
        "rows": run.rows,
        "eval_rows": run.eval_rows,
        "model": run.model,
        "rows_seen_token_by_token": run.sampled,
        "tokens": run.tokens,
        "trained_tokens": run.trained,
        "longest_row_tokens": run.longest,
        "clean": report.clean,
        "findings": [found(finding) for finding in report.findings],
        "notes": list(run.notes),
        "looked_for": sorted(rule.id for rule in report.looked_for),
    }


def found(finding: Finding) -> dict:
    """A finding for --json."""
    rule = finding.rule
    evidence = [
        {
            "where": one.where,
            "row": one.number or None,
            "text": one.text,
            "tokens": None
            if one.tokens is None
            else [[token, bool(trained)] for token, trained in one.tokens],
        }
        for one in finding.evidence
    ]
    return {
        "id": rule.id,
        "severity": rule.severity,
        "count": finding.count,
        "why": rule.why,
        "fix": rule.fix,
        "evidence": evidence,
    }
