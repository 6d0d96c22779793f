"""The error browser: which rows its filters leave, what it shows of them, and one's own rows."""

import json
import re

import pytest

from labsupport.baselines import comparisons
from labsupport.core.files import LabError
from labsupport.evaluation import experiments, metrics
from labsupport.explorers import error_browser_explorer as browser
from labsupport.explorers import error_rows
from labsupport.tasks import tickets
from labsupport.teaching import explorer_shell

ROWS = [
    {"id": "a", "text": "Where is it?\nSam", "topic": "delivery", "urgent": True},
    {"id": "b", "text": "The zip broke.", "topic": "defect", "urgent": False},
    {"id": "c", "text": "Two <b>sizes</b> up, please.", "topic": "exchange", "urgent": False},
]
RIGHT = {row["id"]: {"topic": row["topic"], "urgent": row["urgent"]} for row in ROWS}
ANSWERS = {
    "mine": {
        "a": RIGHT["a"],
        "b": json.dumps(RIGHT["b"] | {"topic": "return"}),
        "c": "I <i>think</i> so",
    },
    "other": RIGHT,
    "hopeless": dict.fromkeys("abc", "no"),
}


def ids(view):
    return [row["row"] for row in view.table]


def own(**filters):
    return browser.view(ROWS, ANSWERS, **filters)


def count(view):
    """The rows that the heading counts, and those among which."""
    found, among = re.search(r": ([\d,]+) of ([\d,]+) ", view.heading).groups()
    return int(found), int(among)


# ---------------------------------------------------------------- the published records


@pytest.mark.parametrize("name", error_rows.SETS)
def test_wrong_rows_are_those_of_the_record(name):
    split = error_rows.SETS[name]
    rows = {row["id"]: row for row in tickets.load(split)}
    records = experiments.published("first_fine_tune")["cells"][0]["metrics"][split]
    wrong = [r["id"] for r in records if not metrics.is_right(r["reply"], rows[r["id"]])]
    seen, page = [], 1
    while len(seen) < len(wrong):
        seen += ids(browser.view(set=name, page=page))
        page += 1
    assert seen == wrong and len(wrong) > 50
    assert count(browser.view(set=name)) == (len(wrong), len(rows))


@pytest.mark.parametrize("field", tickets.FIELDS)
def test_a_field_is_wrong_where_the_record_of_the_rules_says_so(field):
    found = comparisons.results(experiments.published("baselines"), "rules", "test_lookalike")
    wrong = sum(not row[field] for row in found.values())
    shown = browser.view(set="lookalike", model="rules", field=field)
    assert count(shown) == (wrong, len(found)) and "for which that is recorded" in shown.heading
    share = error_rows.rates(error_rows.recorded(), "rules")["lookalike"][field]
    assert share[0] == pytest.approx(wrong / len(found)) and share[1] <= share[0] <= share[2]


def test_only_this_model_wrong_and_all_right_agree_with_a_count_by_hand():
    lora = {row.id: row for row in error_rows.recorded().sets["production"]}
    kept = error_rows.compared(list(lora.values()), error_rows.recorded().models, "order_id")
    right = {i: [row.answers[m].right["order_id"] for m in kept] for i, row in lora.items()}
    assert kept == ["LoRA", "rules", "best prompt"]
    alone = [i for i, flags in right.items() if flags == [False, True, True]]
    everyone = [i for i, flags in right.items() if all(flags)]
    assert 0 < len(alone) < len(everyone)
    view = browser.view(outcome="only this model wrong", field="order_id")
    assert ids(view) == alone[: browser.PAGE] and count(view) == (len(alone), 200)
    assert count(browser.view(outcome="all models right", field="order_id")) == (len(everyone), 200)
    assert "never right here: base model" in view.drawing._repr_html_()


def test_the_title_states_what_the_bars_show():
    shares = error_rows.rates(error_rows.recorded(), "LoRA")["production"]
    fields = {field: shares[field][0] for field in tickets.FIELDS}
    worst = max(fields, key=fields.get)
    fig, alt = browser.figure(error_rows.recorded(), "production", "LoRA")
    title = fig.axes[0].get_title("left")
    assert worst in title and f"{100 * fields[worst]:.0f} % of production rows" in title
    assert f"{worst} {100 * fields[worst]:.0f} %" in alt and "lookalike" in alt
    widths = [bar.get_width() for bar in fig.axes[0].patches]
    assert widths[-5:] == [
        pytest.approx(100 * shares[field][0]) for field in ("whole answer", *tickets.FIELDS)
    ]


def test_what_is_not_recorded_is_not_called_wrong():
    view = browser.view(set="lookalike", model="base model", outcome="any")
    without = [row["base model"] for row in view.table]
    assert "– not recorded" in without and "– not recorded" not in [row["LoRA"] for row in view.table]
    unwritten = [
        row for row in error_rows.recorded().sets["production"] if row.answers["base model"].right is None
    ]
    assert len(unwritten) == 128
    assert {row.answers["base model"].exact for row in unwritten} == {False}


# ---------------------------------------------------------------- one's own rows


def test_outcomes_of_own_rows():
    assert ids(own(outcome="any")) == ["a", "b", "c"]
    assert ids(own()) == ["b", "c"]  # an invalid reply is wrong
    assert ids(own(field="urgent")) == ["c"]
    assert ids(own(outcome="invalid JSON")) == ["c"]
    assert ids(own(outcome="only this model wrong")) == ["b", "c"]  # the hopeless one is not compared
    assert ids(own(outcome="all models right")) == ["a"]
    assert ids(own(outcome="all models right", field="urgent")) == ["a", "b"]
    assert ids(own(model="hopeless", outcome="only this model wrong")) == ["a"]
    assert ids(browser.view(ROWS, {"mine": ANSWERS["mine"]}, outcome="only this model wrong")) == []


def test_a_text_is_looked_for_in_message_expected_and_reply():
    assert ids(own(outcome="any", text=" ZIP ")) == ["b"]
    assert ids(own(outcome="any", text="exchange")) == ["c"]
    assert ids(own(outcome="any", text="I <i>think")) == ["c"]
    assert ids(own(outcome="any", text="return")) == ["b"] and ids(own(outcome="any", text="x y z")) == []
    assert 'and "x y z": 0 of 3' in own(outcome="any", text="x y z").heading


def test_what_differs_is_marked_not_by_colour_alone_and_all_is_escaped():
    page = own().drawing._repr_html_()
    marks = re.findall(r"<mark[^>]*>(.*?)</mark>", page)
    assert marks.count("✗ return") == 1 and all(mark.startswith("✗") for mark in marks)
    assert "✗ defect" not in page and "<i>think</i>" not in page and "<b>sizes" not in page
    assert "I &lt;i&gt;think" in page and 'tabindex="0"' in page and 'role="group"' in page
    assert "✗ no valid JSON" in marks
    assert "Where is it? ↵ Sam" in own(outcome="all models right").drawing._repr_html_()
    dear = [ROWS[0] | {"text": "$5 or $6?"}]
    page = browser.view(dear, {"mine": {"a": "no"}}).drawing._repr_html_()
    assert "<span>$</span>5 or <span>$</span>6?" in page  # two bare ones would be set as a formula


def test_the_table_twin_names_the_wrong_fields():
    first = own().table[0]
    assert first["expected"] == "defect · false"
    assert first["mine"] == "✗ topic: return" and first["other"] == "✓"
    assert first["hopeless"] == "✗ no valid JSON: no"
    text = explorer_shell.as_text(own())
    assert "mine" in text and "✗ topic: return" in text


@pytest.mark.parametrize(
    ("rows", "answers", "said"),
    [
        ([], ANSWERS, "no rows to browse"),
        ([{"text": "x", "topic": "y"}], ANSWERS, "Row 1 has no id"),
        ([ROWS[0], {"id": "", "topic": "y"}], ANSWERS, "Row 2 has no id and no text"),
        ([ROWS[0], ROWS[0]], ANSWERS, "2 rows have 1 ids"),
        ([ROWS[0], {"id": "b", "text": "x"}], ANSWERS, "Row 'b' has other fields than the first: topic"),
        ([{"id": "a", "text": "x"}], ANSWERS, "have no fields"),
        (ROWS, None, "There are no answers"),
        (ROWS, {"mine": {"z": "no"}}, "'mine' answers 'z', which is the id of no row"),
        (ROWS, {"mine": {"a": 1}}, "must be a dict of row id: reply"),
        (ROWS, {"mine": ["no"]}, "must be a dict of row id: reply"),
    ],
)
def test_rows_and_answers_that_do_not_fit_are_one_line(rows, answers, said):
    for call in (browser.view, browser.explore):
        with pytest.raises(LabError, match=re.escape(said)) as error:
            call(rows, answers)
        assert "\n" not in str(error.value)


def test_an_unknown_filter_is_one_line_with_the_nearest_first():
    for name, value, first in (
        ("set", "producton", "production"),
        ("model", "lora", "LoRA"),
        ("outcome", "wrongs", "wrong"),
        ("field", "products", "product"),
    ):
        for call in (browser.view, browser.explore):
            with pytest.raises(LabError, match=rf"Unknown {name} '{value}'\. There are: {first}"):
                call(**{name: value})


@pytest.mark.parametrize("page", [0, -1, 1.5, "2", None])
def test_a_page_is_a_whole_number_from_1(page):
    with pytest.raises(LabError, match="page is"):
        own(page=page)


# ---------------------------------------------------------------- the controls


def test_controls_redraw_and_stay_within_what_there_is():
    box = browser.explore(set="production", outcome="wrong", field="product")
    assert box.view.heading.startswith("LoRA, product wrong: ")
    seen = {box.out.value}
    turns = {"set": "lookalike", "model": "rules", "outcome": "any", "page": 2, "text": "tent"}
    for name, value in turns.items():
        box.controls[name].value = value
        seen.add(box.out.value)
    assert len(seen) == 1 + len(turns) and {*turns, "field"} == {*box.controls}
    box.controls["page"].value = most = box.controls["page"].max
    last = re.search(rf"Page (\d+) of (\d+); there is no page {most}\.", box.view.heading).groups()
    assert last[0] == last[1] and box.view.table


def test_the_fallback_without_widgets_has_list_figure_and_table():
    bundle = browser.explore(ROWS, ANSWERS)._repr_mimebundle_()
    page, text = bundle["text/html"], bundle["text/plain"]
    assert "test set: your rows" in text and "✗ topic: return" in text
    assert page.count("<table") == 2 and '<img alt="Bars of wrong rows' in page and "✗ return" in page
    assert page.index("<img") < page.index("<mark")
