"""The quiz: sound questions, answers graded as people write them, and no answer in the browser."""

import dataclasses
import json
import math
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from labsupport.core.files import LabError
from labsupport.teaching import answer_store, quiz, quiz_widget
from labsupport.teaching import questions as q
from labsupport.teaching.quiz_widget import Quiz

CATALOGUE = quiz.catalogue()
ALL = [question for questions in CATALOGUE.values() for question in questions]
CHOICES = [x for x in ALL if isinstance(x, q.ChoiceQuestion)]
NUMBERS = [x for x in ALL if isinstance(x, q.NumberQuestion)]
FREE = [x for x in ALL if isinstance(x, q.FreeQuestion)]

COLOURS = q.ChoiceQuestion(
    "colours",
    "Is `a < b` & <i>so</i>?",
    [q.Choice("<b>yes</b>", "It is.", right=True), q.Choice("no", "SECRET: look again.")],
)
SIZE = q.NumberQuestion("size", "How many?", lambda: 41_943_040, 0.001, "parameters", "SECRET: 2 r n.")
SHARE = q.NumberQuestion("share", "What share?", lambda: 0.58, 0.02, "%", "SECRET: divide.")
WORDS = q.FreeQuestion("words", "Why?", "SECRET: because.", ["SECRET one", "SECRET two"])
SAMPLE = q.numbered("42_sample", [COLOURS, SIZE, SHARE, WORDS])


@pytest.fixture(autouse=True)
def progress_file(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_PROGRESS", str(tmp_path / "progress.json"))
    return tmp_path / "progress.json"


def by_key(question):
    return question.key


# Every question of the course


def test_numbers_say_where_a_question_stands():
    assert {"00_start_here", "01_first_fine_tune"} <= set(CATALOGUE)
    for notebook, questions in CATALOGUE.items():
        assert [x.number for x in questions] == [f"{notebook[:2]}.{k}" for k in range(1, len(questions) + 1)]


def test_keys_are_words_and_each_is_there_once():
    keys = [x.key for x in ALL]
    assert sorted(set(keys)) == sorted(keys)
    assert [key for key in keys if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+){1,6}", key)] == []


def test_a_question_that_moves_keeps_its_answer(progress_file):
    questions = [COLOURS, SIZE]
    answer_store.record(q.numbered("42_sample", questions)[1].kept_as, "7", False)
    first = q.NumberQuestion("new-first", "?", lambda: 1, 0, "", "w")
    moved = q.numbered("57_sample", [first, *questions])
    assert [x.number for x in moved] == ["57.1", "57.2", "57.3"]
    assert list(Quiz(moved).verdicts) == [SIZE.key]


@pytest.mark.parametrize("question", CHOICES, ids=by_key)
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


@pytest.mark.parametrize("question", NUMBERS, ids=by_key)
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


@pytest.mark.parametrize("question", FREE, ids=by_key)
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
    allowed = {"key", "number", "text", "kind", "choices", "unit"}
    assert all(set(shown) <= allowed for shown in widget.questions)
    state = json.dumps(widget.get_state(["questions", "verdicts"]), ensure_ascii=False)
    for question in CATALOGUE[notebook]:
        assert json.dumps(question.text, ensure_ascii=False)[1:-1] in state
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
    negative = q.NumberQuestion("negative", "?", lambda: -10, 0.1, "", "w")
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
    first = answer_store.load()[0]["first_fine_tune/which-tokens-are-trained"]
    assert first["answer"] == "a" and first["right"] is False
    quiz.answer("01.2", f"{3 * math.log(32_000):.3f} nats")
    assert capsys.readouterr().out.startswith("Right: ")
    second = answer_store.load()[0]["first_fine_tune/nll-of-blind-guessing"]
    assert second | {"asked": ""} == first | {"answer": "31.120 nats", "right": True, "asked": ""}
    quiz.solution("01.1")
    assert capsys.readouterr().out.startswith('From {"intent" to </s>')


def test_plain_call_takes_a_key_for_a_number(capsys):
    for which in ("which-tokens-are-trained", "01.1"):
        quiz.answer(which)
        quiz.answer(which, "c")
        quiz.solution(which)
    said = capsys.readouterr().out
    assert said[: len(said) // 2] * 2 == said and said.startswith("01.1 Which tokens")
    assert list(answer_store.load()[0]) == ["first_fine_tune/which-tokens-are-trained"]


def test_plain_call_of_a_free_question_is_recorded_once_scored(capsys):
    quiz.answer("01.4", "other phrasing")
    assert "met=[" in capsys.readouterr().out
    assert answer_store.load()[0] == {}
    quiz.answer("01.4", "other phrasing", met=[1, 2, 3])
    assert "3 of 3" in capsys.readouterr().out
    assert answer_store.load()[0]["first_fine_tune/why-production-scores-lower"]["right"] is True


def test_plain_call_without_a_value_prints_the_question(capsys):
    quiz.answer("01.1")
    shown = capsys.readouterr().out
    assert "Which tokens" in shown and "  a. From <s> to" in shown
    assert answer_store.load()[0] == {}


@pytest.mark.parametrize("given", ["e", 5, [], float("inf")])
def test_bad_answer_is_not_recorded(given, capsys):
    quiz.answer("01.1", given)
    assert "a, b, c or d" in capsys.readouterr().out
    assert answer_store.load()[0] == {}


@pytest.mark.parametrize("which", ["1.1", "01", "", 1.1, None, ["01.1"], "which-tokens"])
def test_unknown_question_is_one_sentence(which, capsys):
    quiz.answer(which, "a")
    quiz.solution(which)
    first, second = capsys.readouterr().out.splitlines()
    assert first == second and "There is no question" in first and "01.1" in first


def test_unknown_notebook_names_the_known_ones():
    with pytest.raises(LabError, match="No questions for '01_first'.*01_first_fine_tune"):
        quiz.ask("01_first")


def test_unwritable_progress_file_is_a_sentence_beside_the_verdict(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LAB_PROGRESS", str(tmp_path / "file" / "progress.json"))
    right = [choice.right for choice in CHOICES[0].choices].index(True)
    quiz.answer(CHOICES[0].key, "abcd"[right])
    verdict, note = capsys.readouterr().out.splitlines()
    assert verdict.startswith("Right. ")
    assert note.startswith("This answer was not recorded. Cannot") and "progress.json" in note


# The widget


def test_widget_grades_a_message_and_records_it():
    widget = Quiz(SAMPLE)
    widget.receive({"key": "colours", "answer": "b"})
    verdict = widget.verdicts["colours"]
    assert verdict == {"right": False, "message": "Not right. SECRET: look again.", "solvable": True}
    widget.receive({"key": "colours", "answer": "a"})
    assert widget.verdicts["colours"]["right"] is True and not widget.verdicts["colours"]["solvable"]
    assert answer_store.load()[0]["sample/colours"]["answer"] == "a"
    assert set(widget.verdicts) == {"colours"}


def test_widget_shows_the_answer_only_when_asked():
    widget = Quiz(SAMPLE)
    widget.receive({"key": "size", "answer": "7"})
    assert "SECRET" not in str(widget.verdicts) and "41" not in str(widget.verdicts)
    widget.receive({"key": "size", "solve": True})
    assert widget.verdicts["size"] == {"right": False, "message": "41,943,040 parameters. SECRET: 2 r n."}
    assert answer_store.load()[0]["sample/size"]["right"] is False


def test_widget_reveals_the_rubric_after_a_text_and_records_the_score():
    widget = Quiz(SAMPLE)
    widget.receive({"key": "words", "answer": " "})
    assert "SECRET" not in str(widget.verdicts)
    widget.receive({"key": "words", "answer": "hm"})
    assert widget.verdicts["words"]["rubric"] == WORDS.rubric
    assert "SECRET: because." in widget.verdicts["words"]["message"]
    assert answer_store.load()[0] == {}
    widget.receive({"key": "words", "answer": "hm", "met": [1]})
    assert "1 of 2" in widget.verdicts["words"]["message"]
    assert "SECRET: because." in widget.verdicts["words"]["message"]
    assert answer_store.load()[0]["sample/words"]["right"] is False


@pytest.mark.parametrize("content", [None, "x", {}, {"key": "9"}, {"id": "colours"}, {"answer": "a"}, []])
def test_widget_ignores_messages_that_concern_no_question(content):
    widget = Quiz(SAMPLE)
    widget.receive(content)
    assert widget.verdicts == {}


def test_widget_says_when_a_key_cannot_be_computed():
    def broken():
        raise ImportError("no bitsandbytes")

    widget = Quiz([q.NumberQuestion("broken", "?", broken, 0.1, "", "w")])
    widget.receive({"key": "broken", "answer": "1"})
    assert "no bitsandbytes" in widget.verdicts["broken"]["message"]
    assert widget.verdicts["broken"]["right"] is None and answer_store.load()[0] == {}


def test_widget_tells_what_was_answered_before():
    answer_store.record("sample/colours", "a", True)
    answer_store.record("other/colours", "a", False)
    verdicts = Quiz(SAMPLE).verdicts
    assert list(verdicts) == ["colours"]
    assert verdicts["colours"]["right"] is True and verdicts["colours"]["message"].endswith(": right.")


def test_an_answer_to_other_words_is_no_answer_to_these():
    question = q.numbered("42_sample", SAMPLE)[0]
    answer_store.record(question.kept_as, "a", True, question.asked)
    assert Quiz([question]).verdicts[question.key]["right"] is True
    for other in (
        dataclasses.replace(question, text=question.text + " Really?"),
        dataclasses.replace(question, choices=[*question.choices, q.Choice("maybe", "Never.")]),
    ):
        assert Quiz([other]).verdicts == {} and other.asked != question.asked
        assert answer_store.given(answer_store.load()[0], other) is None


def test_damaged_and_newer_progress_files_are_told_when_the_questions_open(progress_file, capsys):
    progress_file.write_text('{"version": 2, "ans')
    Quiz(SAMPLE)
    assert "progress.json.bad" in capsys.readouterr().out
    progress_file.write_text('{"version": 3, "answers": {}}')
    Quiz(SAMPLE)
    assert "will not be recorded" in capsys.readouterr().out


def test_static_fallback_shows_every_question_escaped_and_no_answer():
    data, _metadata = Quiz(SAMPLE)._repr_mimebundle_()
    shown, plain = data["text/html"], data["text/plain"]
    assert "application/vnd.jupyter.widget-view+json" in data
    assert "Is <code>a &lt; b</code> &amp; &lt;i&gt;so&lt;/i&gt;?" in shown
    assert "<p>a. &lt;b&gt;yes&lt;/b&gt;<br>b. no</p>" in shown
    assert "Is `a < b` & <i>so</i>?" in plain and "  b. no" in plain
    for text in (shown, plain):
        assert "How many?" in text and "What share?" in text and "Why?" in text
        assert "SECRET" not in text and "41" not in text and "0.58" not in text
    assert 'quiz.answer("42.2", 0)  # in parameters' in plain
    assert "quiz.answer(&quot;42.1&quot;, &quot;a&quot;)" in shown


@pytest.mark.parametrize("notebook", quiz.catalogue())
def test_neither_length_nor_place_gives_an_answer_away(notebook):
    """Whoever guesses by the odd length of an option, or always the same letter, is right by chance only."""
    asked = [item for item in quiz.catalogue()[notebook] if isinstance(item, q.ChoiceQuestion)]
    for question in asked:
        lengths = [len(choice.text) for choice in question.choices]
        (right,) = [len(choice.text) for choice in question.choices if choice.right]
        assert max(lengths) <= max(1.5 * min(lengths), min(lengths) + 25), question.key
        others = sorted(lengths)
        others.remove(right)
        assert right <= others[-1] + 12 and right >= others[0] - 12, question.key
    places = [[choice.right for choice in question.choices].index(True) for question in asked]
    assert len(places) < 2 or len(set(places)) > 1


def test_right_answers_stand_at_every_place_and_have_every_length():
    places, ranks = [], []
    for questions in quiz.catalogue().values():
        for question in questions:
            if isinstance(question, q.ChoiceQuestion):
                right = [choice.right for choice in question.choices].index(True)
                order = sorted(range(len(question.choices)), key=lambda i: len(question.choices[i].text))
                places.append(right)
                ranks.append(order.index(right))
    for counts in (Counter(places), Counter(ranks)):
        assert set(range(4)) <= set(counts) and max(counts.values()) <= 0.45 * len(places)


def test_static_fallback_does_not_depend_on_progress():
    before = Quiz(SAMPLE)._repr_mimebundle_()[0]
    answer_store.record("sample/colours", "a", True)
    after = Quiz(SAMPLE)._repr_mimebundle_()[0]
    assert before["text/html"] == after["text/html"] and before["text/plain"] == after["text/plain"]


def test_browser_gets_the_files_beside_the_widget():
    folder = Path(quiz_widget.__file__).parent
    assert str(Quiz._esm) == (folder / "quiz_widget.js").read_text(encoding="utf-8")
    assert str(Quiz._css) == (folder / "quiz_widget.css").read_text(encoding="utf-8")


def test_plain_call_imports_neither_torch_nor_widgets():
    code = (
        "import sys\n"
        "from labsupport.teaching import quiz\n"
        "quiz.answer('01.1', 'd')\n"
        "assert not {'torch', 'anywidget', 'matplotlib'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
