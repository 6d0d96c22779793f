"""Checkpoints: the questions that close a notebook, one module of QUESTIONS a notebook.

checkpoints.ask("01_first_fine_tune")       the questions, to answer in the notebook
checkpoints.answer("01.1", "b")             the same by a plain call, where widgets do not run
checkpoints.solution("01.1")                the answer
"""

from __future__ import annotations

import importlib
import pkgutil

from labsupport.checkpoints import store
from labsupport.checkpoints.questions import FreeQuestion, Question, as_text, grade
from labsupport.checkpoints.questions import solution as solution_of
from labsupport.files import LabError

HELPERS = ("questions", "store", "widget")


def catalogue() -> dict[str, list[Question]]:
    """Notebook name ("01_first_fine_tune") -> its questions, in course order."""
    modules = [m.name for m in pkgutil.iter_modules(__path__) if m.name not in HELPERS]
    lists = {name: importlib.import_module(f"{__name__}.{name}").QUESTIONS for name in modules}
    named = {f"{questions[0].id.partition('.')[0]}_{name}": questions for name, questions in lists.items()}
    return dict(sorted(named.items()))


def ask(notebook: str):
    """The notebook's questions as a widget. Raises LabError for a name without questions."""
    known = catalogue()
    if notebook not in known:
        raise LabError(f"No questions for {notebook!r}. There are some for: {', '.join(known)}.")
    from labsupport.checkpoints.widget import Checkpoint

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
        note = store.record(id, value, right)
        if note:
            print(note)
        if not right and not is_free:
            print(f'To see the answer: checkpoints.solution("{id}")')
    elif is_free and isinstance(value, str) and value.strip():
        print(f'Score it: checkpoints.answer("{id}", your text, met=[1, 2]) if it meets points 1 and 2.')


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
