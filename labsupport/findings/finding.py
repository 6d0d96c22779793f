"""What a check finds, and how findings of one kind are gathered."""

from __future__ import annotations

from dataclasses import dataclass, field

SEVERITIES = ("error", "warning", "note")  # a note says something worth knowing; it is no fault
SHOWN = 3  # pieces of evidence kept of each kind of finding; all are counted


@dataclass(frozen=True)
class Rule:
    """One kind of finding. id: stable, in words joined by hyphens. severity: one of SEVERITIES.
    why: one sentence on what it does to a fine-tune. fix: one line on what to do."""

    id: str
    severity: str
    why: str
    fix: str


@dataclass(frozen=True)
class Evidence:
    """One place where a rule was broken. where: "line 17"; "" where it is about the data or the settings as a
    whole. text: what stands there, short. number: the row's number, 0 for the whole. tokens: decoded tokens,
    each with whether it is trained on; None where the fault is not one of tokens."""

    where: str
    text: str
    number: int = 0
    tokens: tuple[tuple[str, bool], ...] | None = None


@dataclass(frozen=True)
class Hit:
    """A rule and the evidence for it: what checks yield."""

    rule: Rule
    evidence: Evidence


@dataclass
class Finding:
    """All hits of one rule. count: how many there were; evidence: the first SHOWN of them."""

    rule: Rule
    count: int = 0
    evidence: list[Evidence] = field(default_factory=list)


def gathered(findings: dict[str, Finding], hits) -> None:
    """Count the hits among the findings, which are kept by rule."""
    for hit in hits:
        finding = findings.setdefault(hit.rule.id, Finding(hit.rule))
        finding.count += 1
        if len(finding.evidence) < SHOWN:
            finding.evidence.append(hit.evidence)


def hit(rule: Rule, record, text: str, tokens=None) -> Hit:
    """A hit in a row. text: cut to 200 characters."""
    return Hit(rule, Evidence(record.where, shortened(text), record.number, tokens))


def hit_whole(rule: Rule, text: str) -> Hit:
    """A hit that is about the data or the settings as a whole."""
    return Hit(rule, Evidence("", text))


def shortened(text: str, longest: int = 200) -> str:
    """The text in one line, its middle left out where it is too long."""
    line = " ".join(text.split())
    if len(line) <= longest:
        return line
    half = (longest - 5) // 2
    return f"{line[:half]} ... {line[-half:]}"
