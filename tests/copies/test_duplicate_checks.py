"""Rows that stand there twice, nearly twice, or on both sides; and rows that only look like it."""

import copy
from pathlib import Path

import pytest
from checked_rows import checked, checked_fixture
from clean_rows import clean_rows, row_of
from seen_rows import records

from labsupport.copies import duplicate_checks
from labsupport.copies.duplicate_checks import leaks_into
from labsupport.copies.near import Rows, near_pairs
from labsupport.findings.check import Run
from labsupport.tasks import tickets

RULES = {rule.id for rule in duplicate_checks.RULES}


def said(row: dict) -> tuple[str, str]:
    return row["prompt"][0]["content"], row["completion"][0]["content"]


@pytest.mark.parametrize("rule", sorted(RULES))
def test_a_fixture_breaks_its_rule_alone(rule):
    assert list(checked_fixture(rule)) == [rule]


def test_clean_rows_break_none():
    rows = clean_rows(1_000)
    assert checked(rows[:800], rows[800:]) == {}


def test_a_duplicate_is_shown_with_both_places_whatever_its_spacing():
    rows = clean_rows(30)
    prompt, answer = said(rows[4])
    found = checked([*rows, row_of(f"{prompt}\n", answer.replace(" ", "  "))])
    [evidence] = found["duplicate-rows"].evidence
    assert evidence.where == "line 31" and "line 5" in evidence.text and prompt[:20] in evidence.text


def test_the_families_of_the_course_are_no_copies_and_no_leaks():
    train = tickets.as_prompt_completion(tickets.load("train"))
    for split in ("validation", "test_lookalike", "test_production"):
        assert checked(train, tickets.as_prompt_completion(tickets.load(split))) == {}


def test_rows_that_differ_in_a_number_or_in_a_short_answer_are_no_copies():
    prompt, answer = said(clean_rows(1)[0])
    sums = [
        row_of(f"{prompt} It stands there for {n} years.", f"{answer} That is {n} years.") for n in range(9)
    ]
    labels = [row_of(f"{prompt} {answer} {word}.", word) for word in ("yes", "no", "perhaps")]
    assert not RULES & set(checked(clean_rows(30, seed=3) + sums + labels))


def test_questions_on_one_long_text_are_no_copies():
    text = " ".join(said(row)[1] for row in clean_rows(6))
    asked = (
        "Who lays fleece over it and when?",
        "What does the writer think of beer at dusk?",
        "Why not feed?",
    )
    rows = [
        row_of(f"{text}\n{question}", answer) for question in asked for answer in ("At dusk, the gardener.",)
    ]
    assert "near-duplicate-rows" not in checked(clean_rows(30, seed=1) + rows)


@pytest.mark.parametrize(
    "varied", [str.upper, lambda text: f"Hello! {text}", lambda text: text.replace(" the ", " teh ")]
)
def test_a_copy_with_small_changes_is_shown_with_both_places(varied):
    rows = clean_rows(40)
    prompt, answer = said(rows[9])
    found = checked([*rows, row_of(varied(prompt), answer.replace(". ", "! ", 1))])
    [evidence] = found["near-duplicate-rows"].evidence
    assert evidence.where == "line 41" and "line 10:" in evidence.text


def test_chinese_copies_are_found_word_by_word():
    rows = Rows()
    text = (
        "春天给柠檬树换盆时，请选择比原来大一号的花盆，并在盆底铺一层碎石，"
        "这样多余的水可以流走，根也不会腐烂。"
    )
    for answer in (
        text,
        text.replace("请选择", "最好选择"),
        "夏天每周浇一次透水，比每天浇一点更好，因为根会往深处长，也更耐旱。",
    ):
        rows.add("怎么给柠檬树换盆才好？", answer)
    assert near_pairs(rows)[0] == [(0, 1)]


def test_samples_of_each_prompt_are_a_note_and_no_contradiction():
    rows = [
        row_of(f"What shall we call the {plant} by the gate?", name)
        for plant in (
            "rose",
            "fig",
            "pear",
            "kale",
            "aloe",
            "fern",
            "ivy",
            "mint",
            "leek",
            "box",
            "yew",
            "oak",
        )
        for name in ("Ada", "Grace", "Emmy")
    ]
    found = checked(rows)
    assert "conflicting-answers" not in found and found["several-answers"].rule.severity == "note"


def test_solutions_that_end_in_the_same_result_agree():
    question = "Six pots hold four seedlings each. How many seedlings are there?"
    ways = ("6 x 4 = 24, so there are 24.\n#### 24", "Four and four six times over gives 24.\n#### 24")
    found = checked([*clean_rows(30), *(row_of(question, way) for way in ways)])
    assert "conflicting-answers" not in found
    found = checked([*clean_rows(30), *(row_of(question, way) for way in (ways[0], "6 + 4 = 10\n#### 10"))])
    assert "conflicting-answers" in found


def test_an_instruction_that_many_rows_share_is_no_leak():
    train, other = clean_rows(60)[:40], clean_rows(60)[40:]
    shared = "Tell me something about my garden, please."
    rows = [row_of(shared, said(row)[1]) for row in train]
    assert "evaluation-leak" not in checked(rows, [row_of(shared, said(row)[1]) for row in other])


def test_a_leak_is_found_whatever_case_and_punctuation_and_shown_with_both_places():
    rows = clean_rows(60)
    prompt, answer = said(rows[6])
    found = checked(rows[:40], [*rows[40:], row_of(prompt.upper().replace("?", " ?!"), answer)])
    [evidence] = found["evaluation-leak"].evidence
    assert evidence.where == "evaluation line 21" and "line 7 of the data" in evidence.text


def test_what_leaks_is_told_row_by_row_too():
    rows = records(clean_rows(40))
    leaks = leaks_into(rows[30:], rows)
    assert [leaks(record) for record in rows] == [False] * 30 + [True] * 10


def test_rows_beyond_the_limit_are_compared_for_equality_and_that_is_said(monkeypatch):
    monkeypatch.setattr(duplicate_checks, "NEAR_ROWS", 20)
    rows = clean_rows(30)
    near = {"prompt": row_of("Hello! " + said(rows[0])[0], "")["prompt"], "completion": rows[0]["completion"]}
    assert list(checked([*rows, near, copy.deepcopy(rows[25])])) == ["duplicate-rows"]
    run = Run(Path("rows.jsonl"), "prompt_completion", rows=30)
    check = duplicate_checks.Alike(run)
    for record in records(rows):
        check.see(record)
    assert not list(check.end()) and "the first 20 rows" in run.notes[0]


def under(system: str | None, row: dict) -> dict:
    """The row with a system message."""
    message = [{"role": "system", "content": system}] if system else []
    return row | {"prompt": message + row["prompt"]}


@pytest.mark.parametrize(
    ("mine", "theirs", "leaks"),
    [
        ("Policy A: ten days.", "Policy B: two days.", False),
        ("Policy A.", "policy a", True),
        ("A.", None, True),
    ],
)
def test_a_question_under_another_system_message_is_another_one(mine, theirs, leaks):
    shared = [row_of(f"How long does the shipping take to me, {n}?", f"{n} days.") for n in range(3)]
    rows, other = clean_rows(60)[:40], clean_rows(60)[40:]
    train = [*rows, *(under(mine, row) for row in shared)]
    asked = [*other, *(under(theirs, row) for row in shared)]
    assert ("evaluation-leak" in checked(train, asked)) == leaks
    is_leak = leaks_into(records(asked), records(train))
    assert [is_leak(record) for record in records(train)] == [False] * 40 + [leaks] * 3


def test_rows_that_differ_beside_their_contents_are_no_duplicates():
    row = {"messages": [{"role": "user", "content": "How many seedlings do the six pots hold, please?"}]}
    answer = {"role": "assistant", "content": "There are 24 of them."}
    for beside in ("reasoning_content", "thinking", "function_call"):
        rows = [
            {"messages": [*row["messages"], answer | {beside: text}]} for text in ("Six fours.", "By adding")
        ]
        assert "duplicate-rows" not in checked(rows) and "duplicate-rows" in checked(rows[:1] * 2)
    rows = [
        {"messages": [*row["messages"], answer], "tools": tools}
        for tools in ([{"name": "a"}], [{"name": "b"}])
    ]
    assert "duplicate-rows" not in checked(rows) and "duplicate-rows" in checked(rows[:1] * 2)
