"""The questions that close a notebook: `QUESTIONS` in the file questions.py of its folder.

quiz.ask("01_first_fine_tune")       the questions, to answer in the notebook
quiz.answer("01.1", "b")             the same by a plain call, where widgets do not run
quiz.solution("01.1")                the answer
"""

from __future__ import annotations

from labsupport.core import course
from labsupport.core.files import LabError
from labsupport.teaching import answer_store
from labsupport.teaching.questions import FreeQuestion, Question, as_text, grade
from labsupport.teaching.questions import solution as solution_of


def catalogue() -> dict[str, list[Question]]:
    """Notebook name ("01_first_fine_tune") -> its questions, in course order."""
    modules = {name: course.module(folder, "questions") for name, folder in course.notebooks().items()}
    return {name: module.QUESTIONS for name, module in modules.items() if module}


def ask(notebook: str):
    """The notebook's questions as a widget. Raises LabError for a name without questions."""
    known = catalogue()
    if notebook not in known:
        raise LabError(f"No questions for {notebook!r}. There are some for: {', '.join(known)}.")
    from labsupport.teaching.quiz_widget import Checkpoint

    return Checkpoint(known[notebook])


def answer(id: str, value=None, met: list[int] | None = None) -> None:
    """Grade an answer, print the verdict and record it. Without a value, print the question.

    value: a letter, a number or a text; met: for a free question, the numbers of the rubric's points that
    your text meets. A bad value or an unknown id is one printed sentence.
    """
    try:
        question = find(id)
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
        note = answer_store.record(id, value, right)
        if note:
            print(note)
        if not right and not is_free:
            print(f'To see the answer: quiz.solution("{id}")')
    elif is_free and isinstance(value, str) and value.strip():
        print(f'Score it: quiz.answer("{id}", your text, met=[1, 2]) if it meets points 1 and 2.')


def solution(id: str) -> None:
    """Print the right answer to a question and why."""
    try:
        print(solution_of(find(id)))
    except LabError as error:
        print(error)


def find(id: str) -> Question:
    known = {question.id: question for questions in catalogue().values() for question in questions}
    if str(id) not in known:
        raise LabError(f"There is no question {id!r}. There are: {', '.join(known)}.")
    return known[str(id)]
