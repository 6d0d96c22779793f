"""Checkpoints: sound questions, answers graded as people write them, and no key in the browser."""

import json
import math
import re
import subprocess
import sys

import numpy as np
import pytest

from labsupport.core.files import LabError
from labsupport.teaching import answer_store, quiz
from labsupport.teaching import questions as q
from labsupport.teaching.quiz_widget import Checkpoint

CATALOGUE = quiz.catalogue()
ALL = [question for questions in CATALOGUE.values() for question in questions]
CHOICES = [x for x in ALL if isinstance(x, q.ChoiceQuestion)]
NUMBERS = [x for x in ALL if isinstance(x, q.NumberQuestion)]
FREE = [x for x in ALL if isinstance(x, q.FreeQuestion)]

COLOURS = q.ChoiceQuestion(
    "42.1",
    "Is `a < b` & <i>so</i>?",
    [q.Choice("<b>yes</b>", "It is.", right=True), q.Choice("no", "SECRET: look again.")],
)
SIZE = q.NumberQuestion("42.2", "How many?", lambda: 41_943_040, 0.001, "parameters", "SECRET: 2 r n.")
SHARE = q.NumberQuestion("42.3", "What share?", lambda: 0.58, 0.02, "%", "SECRET: divide.")
WORDS = q.FreeQuestion("42.4", "Why?", "SECRET: because.", ["SECRET one", "SECRET two"])
SAMPLE = [COLOURS, SIZE, SHARE, WORDS]


@pytest.fixture(autouse=True)
def progress_file(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_PROGRESS", str(tmp_path / "progress.json"))
    return tmp_path / "progress.json"


def by_id(question):
    return question.id


# Every question of the course


def test_ids_are_unique_and_run_from_1_in_each_notebook():
    assert {"00_start_here", "01_first_fine_tune"} <= set(CATALOGUE)
    assert len({x.id for x in ALL}) == len(ALL)
    for notebook, questions in CATALOGUE.items():
        number = notebook[:2]
        assert re.fullmatch(r"\d\d_[a-z0-9_]+", notebook)
        assert [x.id for x in questions] == [f"{number}.{k}" for k in range(1, len(questions) + 1)]


@pytest.mark.parametrize("question", CHOICES, ids=by_id)
def test_choice_question_has_one_right_answer_and_explains_each(question):
    assert 3 <= len(question.choices) <= 6
    assert sum(choice.right for choice in question.choices) == 1
    assert len({choice.text for choice in question.choices}) == len(question.choices)
    assert len({choice.why for choice in question.choices}) == len(question.choices)
    for letter, choice in zip(q.letters(question), question.choices, strict=True):
        assert len(choice.why) > 20
        right, message = q.grade(question, letter)
        assert right is choice.right and choice.why in message
        assert q.grade(question, choice.text)[0] is choice.right


@pytest.mark.parametrize("question", NUMBERS, ids=by_id)
def test_number_question_accepts_its_key_and_no_other_number(question):
    key = question.answer()
    assert math.isfinite(key) and 0 <= question.tolerance <= 0.25 and question.why
    for written in (key, str(key), f"{key:,} {question.unit}", np.float64(key)):
        assert q.grade(question, written)[0] is True, written
    wrong = key * (1 + 2 * question.tolerance) + (key == 0 or question.tolerance == 0)
    for number in (wrong, -key - 1, key * 1000 + 1):
        assert q.grade(question, number)[0] is False, number
    assert question.why in q.grade(question, key)[1]
    assert question.why not in q.grade(question, wrong)[1]


@pytest.mark.parametrize("question", FREE, ids=by_id)
def test_free_question_shows_its_model_answer_after_an_answer(question):
    assert len(question.model_answer) > 50 and 2 <= len(question.rubric) <= 5
    right, message = q.grade(question, "my words")
    assert right is None and question.model_answer in message
    assert all(point in message for point in question.rubric)
    empty = q.grade(question, "  \n")[1]
    assert question.model_answer not in empty and "first" in empty


@pytest.mark.parametrize("notebook", CATALOGUE)
def test_browser_gets_the_questions_and_no_answer(notebook):
    widget = quiz.ask(notebook)
    allowed = {"id", "text", "kind", "choices", "unit"}
    assert all(set(shown) <= allowed for shown in widget.questions)
    state = json.dumps(widget.get_state(["questions", "verdicts"]), ensure_ascii=False)
    for question in CATALOGUE[notebook]:
        if isinstance(question, q.ChoiceQuestion):
            secrets = [choice.why for choice in question.choices]
        elif isinstance(question, q.NumberQuestion):
            secrets = [question.why]
        else:
            secrets = [question.model_answer, *question.rubric]
        assert not [s for s in secrets if json.dumps(s, ensure_ascii=False)[1:-1] in state]


# Answers as people write them


@pytest.mark.parametrize(
    "written",
    [
        41943040,
        41943040.0,
        np.int64(41943040),
        np.array(41943040),
        "41943040",
        "41,943,040",
        "41_943_040",
        "41 943 040",
        "41\u202f943\u202f040 parameters",
        "4.194304e7",
        " ~41,943,040 ",
        "+41,943,040.0",
    ],
)
def test_whole_number_in_many_ways(written):
    assert q.grade(SIZE, written)[0] is True


@pytest.mark.parametrize("written", ["0.58 %", "0.58%", ".58", "0,58", "0,580 %", 0.5801, "5.8e-1"])
def test_share_in_many_ways(written):
    assert q.grade(SHARE, written)[0] is True


def test_comma_before_three_digits_separates_thousands():
    assert q.read_number("1,234", "") == 1234
    assert q.read_number("1,5", "") == 1.5
    assert q.read_number("\u22123", "") == -3


def test_tolerance_is_relative():
    assert q.grade(SIZE, 41_943_040 * 1.0009)[0] is True
    assert q.grade(SIZE, 41_943_040 * 1.0011)[0] is False
    negative = q.NumberQuestion("42.9", "?", lambda: -10, 0.1, "", "w")
    assert [q.grade(negative, x)[0] for x in (-9, -11, -8.9, 10)] == [True, True, False, False]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("", "Enter a number first"),
        ("a lot", "'a lot' is not a number"),
        ("1 2", "'1 2' is not a number"),
        ("1,23,4", "is not a number"),
        (None, "None is not a number"),
        (True, "True is not a number"),
        ([1.0], "[1.0] is not a number"),
        (np.array([1.0, 2.0]), "is not a number"),
        (1j, "1j is not a number"),
        (float("nan"), "nan is not a finite number"),
        ("NaN", "'NaN' is not a finite number"),
        ("-inf", "'-inf' is not a finite number"),
        ("1e999", "'1e999' is not a finite number"),
        (10**400, "is not a finite number"),
        ("0.58 GiB", "The unit 'GiB' does not fit: enter the number in %."),
    ],
)
def test_what_is_no_number_is_told_in_a_sentence_and_not_counted_as_wrong(given, text):
    right, message = q.grade(SHARE, given)
    assert right is None and text in message
    assert message.endswith(".") and "\n" not in message and len(message) < 150


@pytest.mark.parametrize("given", ["c", "", "maybe", 0, 1, None, 3.5, [], ("a",), float("nan"), "ab"])
def test_what_is_none_of_the_choices_is_told(given):
    right, message = q.grade(COLOURS, given)
    assert right is None and "a or b" in message


def test_letters_may_be_written_in_many_ways():
    assert all(q.grade(COLOURS, given)[0] is True for given in ("a", " A ", "a)", "(a)", "a.", "<b>yes</b>"))


def test_wrong_number_says_the_side_and_keeps_the_key():
    assert q.grade(SHARE, 0.7) == (False, "Not right: 0.7 % is too high. Try again.")
    assert q.grade(SHARE, "0.1 %") == (False, "Not right: 0.1 % is too low. Try again.")


def test_free_answer_is_scored_by_the_learner():
    assert q.grade(WORDS, ("text", [1, 2]))[0] is True
    assert q.grade(WORDS, ("text", [2])) == (False, "You gave yourself 1 of 2 points.")
    assert q.grade(WORDS, ("text", [0, 3, "1", 2, 2]))[1] == "You gave yourself 1 of 2 points."
    assert q.grade(WORDS, ("text", []))[0] is False
    assert q.grade(WORDS, ("text", 1))[1] == "You gave yourself 1 of 2 points."
    assert q.grade(WORDS, ("", [1, 2]))[0] is None


# The plain call


def test_plain_call_prints_the_verdict_and_records_it(capsys):
    quiz.answer("01.1", "a")
    wrong = capsys.readouterr().out
    assert wrong.startswith("Not right. ") and 'quiz.solution("01.1")' in wrong
    assert answer_store.load()[0]["01.1"]["right"] is False
    quiz.answer("01.2", f"{math.log(8):.3f} nats")
    assert capsys.readouterr().out.startswith("Right: ")
    assert answer_store.load()[0]["01.2"] == answer_store.load()[0]["01.1"] | {
        "answer": "2.079 nats",
        "right": True,
    }
    quiz.solution("01.1")
    assert capsys.readouterr().out.startswith("Those of the answer and the end-of-turn token")


def test_plain_call_of_a_free_question_is_recorded_once_scored(capsys):
    quiz.answer("01.4", "other phrasing")
    assert "met=[" in capsys.readouterr().out
    assert answer_store.load()[0] == {}
    quiz.answer("01.4", "other phrasing", met=[1, 2, 3])
    assert "3 of 3" in capsys.readouterr().out
    assert answer_store.load()[0]["01.4"]["right"] is True


def test_plain_call_without_a_value_prints_the_question(capsys):
    quiz.answer("01.1")
    shown = capsys.readouterr().out
    assert "Which tokens" in shown and "  a. All of them." in shown
    assert answer_store.load()[0] == {}


@pytest.mark.parametrize("given", ["e", 5, [], float("inf")])
def test_bad_answer_is_not_recorded(given, capsys):
    quiz.answer("01.1", given)
    assert "a, b, c or d" in capsys.readouterr().out
    assert answer_store.load()[0] == {}


@pytest.mark.parametrize("id", ["1.1", "01", "", 1.1, None, ["01.1"]])
def test_unknown_id_is_one_sentence(id, capsys):
    quiz.answer(id, "a")
    quiz.solution(id)
    first, second = capsys.readouterr().out.splitlines()
    assert first == second and "There is no question" in first and "01.1" in first


def test_unknown_notebook_names_the_known_ones():
    with pytest.raises(LabError, match="No questions for '01_first'.*01_first_fine_tune"):
        quiz.ask("01_first")


def test_unwritable_progress_file_is_a_sentence_beside_the_verdict(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LAB_PROGRESS", str(tmp_path / "file" / "progress.json"))
    quiz.answer("01.1", "d")
    verdict, note = capsys.readouterr().out.splitlines()
    assert verdict.startswith("Right. ")
    assert note.startswith("This answer was not recorded. Cannot") and "progress.json" in note


# The widget


def test_widget_grades_a_message_and_records_it():
    widget = Checkpoint(SAMPLE)
    widget.receive({"id": "42.1", "answer": "b"})
    verdict = widget.verdicts["42.1"]
    assert verdict == {"right": False, "message": "Not right. SECRET: look again.", "solvable": True}
    widget.receive({"id": "42.1", "answer": "a"})
    assert widget.verdicts["42.1"]["right"] is True and not widget.verdicts["42.1"]["solvable"]
    assert answer_store.load()[0]["42.1"]["answer"] == "a"
    assert set(widget.verdicts) == {"42.1"}


def test_widget_shows_the_answer_only_when_asked():
    widget = Checkpoint(SAMPLE)
    widget.receive({"id": "42.2", "answer": "7"})
    assert "SECRET" not in str(widget.verdicts) and "41" not in str(widget.verdicts)
    widget.receive({"id": "42.2", "solve": True})
    assert widget.verdicts["42.2"] == {"right": False, "message": "41,943,040 parameters. SECRET: 2 r n."}
    assert answer_store.load()[0]["42.2"]["right"] is False


def test_widget_reveals_the_rubric_after_a_text_and_records_the_score():
    widget = Checkpoint(SAMPLE)
    widget.receive({"id": "42.4", "answer": " "})
    assert "SECRET" not in str(widget.verdicts)
    widget.receive({"id": "42.4", "answer": "hm"})
    assert widget.verdicts["42.4"]["rubric"] == WORDS.rubric
    assert "SECRET: because." in widget.verdicts["42.4"]["message"]
    assert answer_store.load()[0] == {}
    widget.receive({"id": "42.4", "answer": "hm", "met": [1]})
    assert "1 of 2" in widget.verdicts["42.4"]["message"]
    assert "SECRET: because." in widget.verdicts["42.4"]["message"]
    assert answer_store.load()[0]["42.4"]["right"] is False


@pytest.mark.parametrize("content", [None, "x", {}, {"id": "9"}, {"answer": "a"}, []])
def test_widget_ignores_messages_that_concern_no_question(content):
    widget = Checkpoint(SAMPLE)
    widget.receive(content)
    assert widget.verdicts == {}


def test_widget_says_when_a_key_cannot_be_computed():
    def broken():
        raise ImportError("no bitsandbytes")

    widget = Checkpoint([q.NumberQuestion("42.5", "?", broken, 0.1, "", "w")])
    widget.receive({"id": "42.5", "answer": "1"})
    assert "no bitsandbytes" in widget.verdicts["42.5"]["message"]
    assert widget.verdicts["42.5"]["right"] is None and answer_store.load()[0] == {}


def test_widget_tells_what_was_answered_before():
    answer_store.record("42.1", "a", True)
    answer_store.record("00.1", "a", False)
    verdicts = Checkpoint(SAMPLE).verdicts
    assert list(verdicts) == ["42.1"]
    assert verdicts["42.1"]["right"] is True and verdicts["42.1"]["message"].endswith(": right.")


def test_damaged_and_newer_progress_files_are_told_when_the_questions_open(progress_file, capsys):
    progress_file.write_text('{"version": 1, "ans')
    Checkpoint(SAMPLE)
    assert "progress.json.bad" in capsys.readouterr().out
    progress_file.write_text('{"version": 2, "answers": {}}')
    Checkpoint(SAMPLE)
    assert "will not be recorded" in capsys.readouterr().out


def test_static_fallback_shows_every_question_escaped_and_no_answer():
    data, _metadata = Checkpoint(SAMPLE)._repr_mimebundle_()
    shown, plain = data["text/html"], data["text/plain"]
    assert "application/vnd.jupyter.widget-view+json" in data
    assert "Is <code>a &lt; b</code> &amp; &lt;i&gt;so&lt;/i&gt;?" in shown
    assert "<li>&lt;b&gt;yes&lt;/b&gt;</li><li>no</li>" in shown
    assert "Is `a < b` & <i>so</i>?" in plain and "  b. no" in plain
    for text in (shown, plain):
        assert "How many?" in text and "What share?" in text and "Why?" in text
        assert "SECRET" not in text and "41" not in text and "0.58" not in text
    assert 'quiz.answer("42.2", 0)  # in parameters' in plain
    assert "quiz.answer(&quot;42.1&quot;, &quot;a&quot;)" in shown


def test_static_fallback_does_not_depend_on_progress():
    before = Checkpoint(SAMPLE)._repr_mimebundle_()[0]
    answer_store.record("42.1", "a", True)
    after = Checkpoint(SAMPLE)._repr_mimebundle_()[0]
    assert before["text/html"] == after["text/html"] and before["text/plain"] == after["text/plain"]


def test_widget_script_writes_no_html_and_needs_no_network():
    script = Checkpoint._esm
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|https?:|import\b", str(script))


def test_plain_call_imports_neither_torch_nor_widgets():
    code = (
        "import sys\n"
        "from labsupport.teaching import quiz\n"
        "quiz.answer('01.1', 'd')\n"
        "assert not {'torch', 'anywidget', 'matplotlib'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
