"""What a reader of a report sees: in words, as JSON, as a page."""

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labsupport.findings.check import Run
from labsupport.findings.finding import SHOWN, Evidence, Hit, Rule, gathered, shortened
from labsupport.preflight import page, report
from labsupport.preflight.runner import Report

BAD = Rule("double-bos", "error", "The model never sees two at inference.", "Train on messages.")
ODD = Rule("few-rows", "warning", "Ten rows teach little.", "Gather more.")
SAID = Rule("time-and-money", "note", "It costs this.", "Nothing.")


def reported(*rules: Rule, times: int = 1, text: str = "here") -> Report:
    findings: dict = {}
    for rule in rules:
        tokens = (("<b>", False), ("yes\n", True), ("no", False))
        evidence = [Evidence(f"line {number}", text, number, tokens) for number in range(1, times + 1)]
        gathered(findings, [Hit(rule, one) for one in evidence])
    run = Run(Path("rows.jsonl"), "messages", rows=times, sampled=times, tokens=3 * times, trained=times)
    return Report(run, list(findings.values()), list(rules))


@pytest.mark.parametrize(
    ("rules", "clean"), [((), True), ((SAID,), True), ((SAID, ODD), False), ((BAD,), False)]
)
def test_notes_alone_are_clean(rules, clean):
    found = reported(*rules)
    assert found.clean is clean
    assert ("No fault was found" in report.in_words(found)) is clean


def test_all_are_counted_and_some_shown():
    found = reported(BAD, times=SHOWN + 4)
    words = report.in_words(found)
    assert f"error double-bos: {SHOWN + 4} places" in words and "... and 4 more" in words
    assert f"line {SHOWN}:" in words and f"line {SHOWN + 1}:" not in words
    assert "Why: The model never sees two" in words and "Fix: Train on messages." in words


def test_each_report_says_how_it_marks_tokens_itself():
    found = reported(BAD)
    assert "are trained on, marked «so» below" in report.in_words(found)
    assert "«" not in page.page(found) and "<mark>underlined</mark>" in page.page(found)


def test_what_is_trained_on_is_marked():
    assert report.marked((("a", False), ("b\n", True), ("c", True), ("d", False))) == "a«b\\nc»d"
    assert report.marked((("a", True),)) == "«a»"


def test_the_document_holds_all_that_is_said():
    document = json.loads(json.dumps(report.as_document(reported(BAD, SAID, times=2))))
    first = document["findings"][0]
    assert (first["id"], first["severity"], first["count"]) == ("double-bos", "error", 2)
    assert first["evidence"][0] == {
        "where": "line 1",
        "row": 1,
        "text": "here",
        "tokens": [["<b>", False], ["yes\n", True], ["no", False]],
    }
    assert document["clean"] is False and document["looked_for"] == ["double-bos", "time-and-money"]


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found.append(tag)


@given(st.text())
def test_a_page_holds_no_markup_of_the_data(text):
    whole = page.page(reported(BAD, text=f"<script>{text}</script><img src=x>{text}"))
    tags = Tags()
    tags.feed(whole)
    assert not {"script", "img", "b"} & set(tags.found)
    assert tags.found.count("mark") == 2  # one explains the other


@given(st.text())
def test_evidence_is_one_short_line(text):
    assert len(shortened(text)) <= 200 and "\n" not in shortened(text)


@given(st.text(st.characters(exclude_categories=[])))  # halves of surrogate pairs, too
def test_no_row_moves_the_cursor_or_cannot_be_written(text):
    found = reported(BAD, text=f"{text}\ud83d\x1b[2J\u202e")
    for said in (report.in_words(found), page.page(found)):
        said.encode()
        assert "\x1b" not in said and "\u202e" not in said and "\\x1b[2J" in said
