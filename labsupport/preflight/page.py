"""A report as one HTML file to send to a colleague: no script, nothing from elsewhere."""

from __future__ import annotations

from html import escape

from labsupport.core.files import short
from labsupport.findings.finding import Evidence, Finding
from labsupport.preflight.report import counted, head, verdict, visible
from labsupport.preflight.runner import Report

STYLE = """
:root { color-scheme: light dark; --line: #8888; --soft: #8882; --trained: #0072b240; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin: 0; }
section { border: 1px solid var(--line); border-radius: 6px; padding: .8rem 1rem; margin: 1rem 0; }
section.error { border-left: 6px solid #d55e00; }
section.warning { border-left: 6px solid #e69f00; }
section.note { border-left: 6px solid #0072b2; }
.severity { font-weight: normal; } li { margin: .3rem 0; }
code { background: var(--soft); white-space: pre-wrap; }
code mark { background: var(--trained); color: inherit; border-bottom: 2px solid; }
"""


def page(report: Report) -> str:
    """The report as an HTML document. Everything that comes from the data is escaped."""
    title = f"Preflight of {escape(short(report.run.data))}"
    notes = "".join(f"<p>{escape(note)}</p>" for note in report.run.notes)
    lines = "<br>".join(map(escape, head(report).splitlines()))
    return visible(
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{title}</title>'
        f"<style>{STYLE}</style></head>\n<body><h1>{title}</h1>\n<p>{lines}</p>\n"
        f"<p><strong>{escape(verdict(report))}</strong> Tokens that are trained on are "
        f"<code><mark>underlined</mark></code>.</p>\n"
        + "\n".join(map(section, report.findings))
        + f"\n{notes}</body></html>\n"
    )


def section(finding: Finding) -> str:
    """One finding."""
    rule = finding.rule
    items = "".join(f"<li>{item(evidence)}</li>" for evidence in finding.evidence)
    more = finding.count - len(finding.evidence)
    items += f"<li>... and {more:,} more</li>" if more else ""
    return (
        f'<section class="{rule.severity}"><h2>{escape(rule.id)} <span class="severity">'
        f"({rule.severity}, {counted(finding.count, 'place')})</span></h2><ul>{items}</ul>"
        f"<p><strong>Why:</strong> {escape(rule.why)}</p>"
        f"<p><strong>Fix:</strong> {escape(rule.fix)}</p></section>"
    )


def item(evidence: Evidence) -> str:
    """One piece of evidence."""
    where = f"<strong>{escape(evidence.where)}:</strong> " if evidence.where else ""
    tokens = ""
    if evidence.tokens:
        spans = [
            f"<mark>{escape(token)}</mark>" if trained else escape(token)
            for token, trained in evidence.tokens
        ]
        tokens = f"<br><code>{''.join(spans)}</code>"
    return f"{where}{escape(evidence.text)}{tokens}"
