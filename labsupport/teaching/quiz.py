"""The questions that close a notebook: `QUESTIONS` in the file questions.py of its folder.

quiz.ask("01_first_fine_tune")       the questions, to answer in the notebook
quiz.answer("01.1", "b")             the same by a plain call, where widgets do not run; a key will do, too:
quiz.answer("which-tokens-are-trained", "b")
quiz.solution("01.1")                the answer
"""

from __future__ import annotations

from labsupport.core import course
from labsupport.core.files import LabError
from labsupport.teaching import answer_store
from labsupport.teaching.questions import FreeQuestion, Question, as_text, grade, numbered
from labsupport.teaching.questions import solution as solution_of


def catalogue() -> dict[str, list[Question]]:
    """Notebook name ("01_first_fine_tune") -> its questions, in course order."""
    modules = {name: course.module(folder, "questions") for name, folder in course.notebooks().items()}
    return {name: numbered(name, module.QUESTIONS) for name, module in modules.items() if module}


def ask(notebook: str):
    """The notebook's questions as a widget. Raises LabError for a name without questions."""
    known = catalogue()
    if notebook not in known:
        raise LabError(f"No questions for {notebook!r}. There are some for: {', '.join(known)}.")
    from labsupport.teaching.quiz_widget import Quiz

    return Quiz(known[notebook])


def answer(which: str, value=None, met: list[int] | None = None) -> None:
    """Grade an answer, print the verdict and record it. Without a value, print the question.

    which: the question's number or key; value: a letter, a number or a text; met: for a free question, the
    numbers of the rubric's points that your text meets. A bad value or an unknown question is one printed
    sentence.
    """
    try:
        question = find(which)
    except LabError as error:
        print(error)
        return
    if value is None:
        print(as_text(question))
        return
    is_free = isinstance(question, FreeQuestion)
    right, message = grade(question, (value, met) if is_free else value)
    print(message)
    if right is not None:
        note = answer_store.record(question.kept_as, value, right, question.asked)
        if note:
            print(note)
        if not right and not is_free:
            print(f'To see the answer: quiz.solution("{question.number}")')
    elif is_free and isinstance(value, str) and value.strip():
        call = f'quiz.answer("{question.number}", your text, met=[1, 2])'
        print(f"Score it: {call} if it meets points 1 and 2.")


def solution(which: str) -> None:
    """Print the right answer to a question and why."""
    try:
        print(solution_of(find(which)))
    except LabError as error:
        print(error)


def find(which: str) -> Question:
    """The question of a number ("01.1") or a key. Raises LabError, which names the numbers there are."""
    asked = [question for questions in catalogue().values() for question in questions]
    for question in asked:
        if which in (question.number, question.key):
            return question
    numbers = ", ".join(question.number for question in asked)
    raise LabError(f"There is no question {which!r}. There are: {numbers}.")
