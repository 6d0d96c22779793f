"""A notebook's closing questions as data, and the grading of an answer.

A question has a key, some words such as "which-tokens-are-trained", which no other question of the course
has and which stays: the learner's answer is kept under it. Its number, such as "01.1", says where it stands
now; `quiz.catalogue` computes it.
"""

from __future__ import annotations

import hashlib
import html
import re
import reprlib
import string
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, replace

from labsupport.core.text import with_unit


@dataclass(frozen=True)
class Question:
    """What every kind of question has. number and kept_as: see `numbered`."""

    key: str
    text: str
    _: KW_ONLY
    number: str = ""
    kept_as: str = ""

    @property
    def asked(self) -> str:
        """A short hash of what is asked: an answer to other words is no answer to these."""
        parts = [self.text, *(choice.text for choice in getattr(self, "choices", []))]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Choice:
    """One of the answers offered; `why` says why it is right or wrong."""

    text: str
    why: str
    right: bool = False


@dataclass(frozen=True)
class ChoiceQuestion(Question):
    """A question with exactly one right choice."""

    choices: list[Choice]


@dataclass(frozen=True)
class NumberQuestion(Question):
    """A question whose right answer `answer()` computes. tolerance: relative. `why` is shown with it."""

    answer: Callable[[], float]
    tolerance: float
    unit: str
    why: str


@dataclass(frozen=True)
class FreeQuestion(Question):
    """A question answered in words, which the learner scores by the rubric beside the model answer."""

    model_answer: str
    rubric: list[str]


def numbered(notebook: str, questions: list[Question]) -> list[Question]:
    """The questions of a notebook ("01_first_fine_tune") with what follows from their places: the number
    they are shown with ("01.1"), and the name their answers are kept under, in which no position stands
    ("first_fine_tune/which-tokens-are-trained").
    """
    number, _, subject = notebook.partition("_")
    return [
        replace(question, number=f"{number}.{place}", kept_as=f"{subject}/{question.key}")
        for place, question in enumerate(questions, start=1)
    ]


def grade(question: Question, answer) -> tuple[bool | None, str]:
    """Whether the answer is right, and one message for the learner. Never raises on a bad answer.

    None instead of True or False: nothing to grade, because the answer is no number, none of the choices
    or, for a free question, not scored yet. A free answer is its text, or (text, numbers of the rubric
    points it meets, from 1).
    """
    if isinstance(question, ChoiceQuestion):
        return grade_choice(question, answer)
    if isinstance(question, NumberQuestion):
        return grade_number(question, answer)
    return grade_free(question, answer)


def letters(question: ChoiceQuestion) -> str:
    return string.ascii_lowercase[: len(question.choices)]


def grade_choice(question: ChoiceQuestion, answer) -> tuple[bool | None, str]:
    given = answer.strip() if isinstance(answer, str) else ""
    names = [*letters(question)]
    letter = given.lower().rstrip(".)").lstrip("(")
    texts = [choice.text for choice in question.choices]
    if letter in names:
        choice = question.choices[names.index(letter)]
    elif given in texts:
        choice = question.choices[texts.index(given)]
    else:
        offered = f"{', '.join(names[:-1])} or {names[-1]}"
        if given == "" and isinstance(answer, str):
            return None, f"Choose {offered} first."
        return None, f"{reprlib.repr(answer)} is none of the choices: answer with {offered}."
    return choice.right, f"{'Right' if choice.right else 'Not right'}. {choice.why}"


def grade_number(question: NumberQuestion, answer) -> tuple[bool | None, str]:
    number = read_number(answer, question.unit)
    if isinstance(number, str):
        return None, number
    wanted = question.answer()
    if abs(number - wanted) <= question.tolerance * abs(wanted) * (1 + 1e-9):
        return True, f"Right: {solution(question)}"
    side = "high" if number > wanted else "low"
    return False, f"Not right: {with_unit(number, question.unit, digits=4)} is too {side}. Try again."


def grade_free(question: FreeQuestion, answer) -> tuple[bool | None, str]:
    text, met = answer if isinstance(answer, tuple) and len(answer) == 2 else (answer, None)
    if not isinstance(text, str) or not text.strip():
        return None, "Write an answer in your own words first; then the model answer is shown."
    if met is None:
        return None, solution(question)
    points = {number for number in range(1, len(question.rubric) + 1) if number in numbers(met)}
    everything = len(points) == len(question.rubric)
    return everything, f"You gave yourself {len(points)} of {len(question.rubric)} points."


def numbers(met) -> list:
    return list(met) if isinstance(met, (list, tuple, set, range)) else [met]


def solution(question: Question) -> str:
    """The right answer with its explanation."""
    if isinstance(question, ChoiceQuestion):
        right = next(choice for choice in question.choices if choice.right)
        return f"{right.text} {right.why}"
    if isinstance(question, NumberQuestion):
        return f"{with_unit(question.answer(), question.unit, digits=4)}. {question.why}"
    points = "".join(f"\n  {i}. {point}" for i, point in enumerate(question.rubric, start=1))
    return f"A model answer: {question.model_answer}\nDoes yours say:{points}"


# ---------------------------------------------------------------- numbers as people write them

SEPARATORS = ",_' \u00a0\u2009\u202f"  # between thousands, the last three being kinds of space
WRITTEN = re.compile(rf"([-+]?)([\d.{SEPARATORS}]*\d\.?)(e[-+]?\d+)?\s*(.*)", re.IGNORECASE | re.DOTALL)
GROUPED = re.compile(rf"[1-9]\d{{0,2}}([{SEPARATORS}]\d{{3}})+(\.\d*)?")
DECIMAL_COMMA = re.compile(r"\d*,\d+")


def read_number(answer, unit: str) -> float | str:
    """The finite number meant by a python or numpy number or by text such as "41_943_040", "1,234" or
    "0.58 %"; otherwise the sentence that says what is wrong with it.
    """
    if getattr(answer, "shape", None) == ():
        answer = answer.item()
    example = f"such as 1234.5 {unit}".rstrip()
    number = answer
    if isinstance(answer, str):
        if not answer.strip():
            return f"Enter a number first, {example}."
        number, its_unit = number_and_unit(answer)
        if its_unit and its_unit.lower().rstrip(".") != unit.lower():
            wanted = f"in {unit}" if unit else "alone"
            return f"The unit {reprlib.repr(its_unit)} does not fit: enter the number {wanted}."
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        return f"{reprlib.repr(answer)} is not a number: enter a plain one {example}."
    if not -1e300 < number < 1e300:  # NaN fails this, too
        return f"{reprlib.repr(answer)} is not a finite number: enter one {example}."
    return number


def number_and_unit(text: str) -> tuple[float | None, str]:
    """The number, None if there is none, and the unit after it."""
    text = text.strip().lstrip("~≈= ").replace("\u2212", "-")
    if text.lower().lstrip("+-") in ("nan", "inf", "infinity"):
        return float(text), ""
    match = WRITTEN.fullmatch(text)
    if not match:
        return None, ""
    sign, digits, exponent, unit = match.groups(default="")
    if GROUPED.fullmatch(digits):
        digits = re.sub(r"[^\d.]", "", digits)
    elif DECIMAL_COMMA.fullmatch(digits):
        digits = digits.replace(",", ".")
    try:
        return float(sign + digits + exponent), unit
    except ValueError:
        return None, ""


# ---------------------------------------------------------------- where no widget runs


def as_text(question: Question) -> str:
    """The question with its choices and the call that answers it, as plain lines."""
    lines = [f"{question.number} {question.text}"]
    if isinstance(question, ChoiceQuestion):
        pairs = zip(letters(question), question.choices, strict=True)
        lines += [f"  {letter}. {choice.text}" for letter, choice in pairs]
    return "\n".join([*lines, f"  {call(question)}"])


def as_html(question: Question) -> str:
    """The same as HTML, everything escaped."""
    parts = [f"<p><b>{question.number}</b> {marked_up(question.text)}</p>"]
    if isinstance(question, ChoiceQuestion):
        pairs = zip(letters(question), question.choices, strict=True)
        # Not <ol type="a">: JupyterLab drops the type where a notebook is not trusted.
        parts.append(
            f"<p>{'<br>'.join(f'{letter}. {marked_up(choice.text)}' for letter, choice in pairs)}</p>"
        )
    return "".join([*parts, f"<p><code>{html.escape(call(question))}</code></p>"])


def call(question: Question) -> str:
    if isinstance(question, ChoiceQuestion):
        return f'quiz.answer("{question.number}", "a")'
    if isinstance(question, NumberQuestion):
        return f'quiz.answer("{question.number}", 0)' + (f"  # in {question.unit}" if question.unit else "")
    return f'quiz.answer("{question.number}", "in your own words")'


def marked_up(text: str) -> str:
    """Escaped, with `code` as code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", html.escape(text))
