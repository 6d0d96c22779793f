"""Characters that do not belong into a text: the faults of `training_data.text_faults` as findings."""

from __future__ import annotations

from labsupport.findings.check import Check
from labsupport.findings.finding import Rule, hit
from labsupport.training_data.text_faults import faults_of

CLEAN = "Run preflight with --fix, or take them out where the file is made."
RULES = (
    Rule(
        "control-characters",
        "warning",
        "Control characters become tokens of their own, which the model learns to write; \\f and \\b often "
        "are what is left of a LaTeX command after a wrong JSON escape.",
        CLEAN,
    ),
    Rule(
        "invisible-characters",
        "warning",
        "Characters that nobody sees split words into other tokens than those the model meets in use, and "
        "tags and overrides can hide whole sentences.",
        CLEAN,
    ),
    Rule(
        "wrong-encoding",
        "warning",
        "Text that was read in the wrong encoding teaches the model to write it so.",
        "Read the source as UTF-8 again, or run preflight with --fix.",
    ),
    Rule(
        "replacement-characters",
        "warning",
        "U+FFFD stands where a character was lost; the model learns to write the mark.",
        "Read the source again in its own encoding: what was lost is not in this file any more.",
    ),
    Rule(
        "lone-surrogates",
        "error",
        "Half of a character cannot be encoded as UTF-8, and the tokenizer stops at it.",
        "Write the file with a JSON library that knows UTF-16 pairs, or run preflight with --fix.",
    ),
    Rule(
        "html-entities",
        "warning",
        "Entities such as &amp; in prose come from a web page, and the model learns to write them.",
        "Unescape the texts once (html.unescape), or run preflight with --fix.",
    ),
)
BY_KIND = {rule.id: rule for rule in RULES}


class Characters(Check):
    """A row's whole text at once, so that an answer in HTML is seen beside the question for it."""

    def see(self, record):
        for kind, excerpt in faults_of(record.whole):
            yield hit(BY_KIND[kind], record, excerpt)


CHECKS = (Characters,)
