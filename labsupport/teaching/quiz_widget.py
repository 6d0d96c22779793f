"""The questions' widget: native HTML controls in the browser, answers and grading in Python.

The browser gets questions and choices. What is right, and why, it gets as the verdict on an answer.
"""

from __future__ import annotations

from pathlib import Path

import anywidget
import traitlets

from labsupport.core.files import LabError
from labsupport.teaching import answer_store
from labsupport.teaching import questions as q


class Quiz(anywidget.AnyWidget):
    """The questions of one notebook. Answers arrive as messages {key, answer}, {key, answer, met} or
    {key, solve}; a verdict {right, message, ...} lands in `verdicts`.
    """

    _esm = Path(__file__).with_suffix(".js")
    _css = Path(__file__).with_suffix(".css")
    questions = traitlets.List().tag(sync=True)
    verdicts = traitlets.Dict().tag(sync=True)

    def __init__(self, questions: list[q.Question]):
        self.by_key = {question.key: question for question in questions}
        super().__init__(questions=[public(question) for question in questions], verdicts=self.earlier())
        self.on_msg(lambda _widget, content, _buffers: self.receive(content))

    def earlier(self) -> dict:
        """A line for each question answered before this cell ran."""
        try:
            answers, note = answer_store.load()
        except LabError as error:
            answers, note = {}, f"Your answers will not be recorded. {error}"
        if note:
            print(note)
        verdicts = {}
        for key, question in self.by_key.items():
            entry = answer_store.given(answers, question)
            if entry:
                text = f"Answered on {entry['date']}: {verdict(entry)}."
                verdicts[key] = {"right": entry["right"], "message": text}
        return verdicts

    def receive(self, content) -> None:
        """Grade what the browser sent. Any failure becomes a sentence: here nobody sees a traceback."""
        question = self.by_key.get(content.get("key")) if isinstance(content, dict) else None
        if question is None:
            return
        try:
            result = self.judge(question, content)
        except Exception as error:  # the right answer is computed by code that may fail
            result = {"right": None, "message": f"The course could not grade this: {error!r}"}
        self.verdicts = self.verdicts | {question.key: result}
        self.send({"key": question.key})  # also when the verdict is the same again

    def judge(self, question: q.Question, content: dict) -> dict:
        if content.get("solve"):
            right = self.verdicts.get(question.key, {}).get("right")
            return {"right": right, "message": q.solution(question)}
        answer = content.get("answer")
        is_free = isinstance(question, q.FreeQuestion)
        right, message = q.grade(question, (answer, content.get("met")) if is_free else answer)
        result = {"right": right, "message": message}
        if right is not None:
            note = answer_store.record(question.kept_as, answer, right, question.asked)
            model_answer = f"\nA model answer: {question.model_answer}" if is_free else ""
            result["message"] += model_answer + (f"\n{note}" if note else "")
            result["solvable"] = right is False and not is_free
        elif is_free and isinstance(answer, str) and answer.strip():
            result |= {"message": f"A model answer: {question.model_answer}", "rubric": question.rubric}
        return result

    def _repr_mimebundle_(self, **options):
        """The widget, and where none runs the questions with the call that answers each."""
        data, metadata = super()._repr_mimebundle_(**options)
        asked = self.by_key.values()
        text = {
            "text/html": "".join(q.as_html(question) for question in asked),
            "text/plain": "\n\n".join(q.as_text(question) for question in asked),
        }
        return data | text, metadata


def public(question: q.Question) -> dict:
    """What the browser may know of a question before it is answered."""
    shown = {"key": question.key, "number": question.number, "text": question.text, "kind": "free"}
    if isinstance(question, q.ChoiceQuestion):
        shown |= {"kind": "choice", "choices": [choice.text for choice in question.choices]}
    if isinstance(question, q.NumberQuestion):
        shown |= {"kind": "number", "unit": question.unit}
    return shown


def verdict(entry: dict) -> str:
    return "right" if entry["right"] else "not right"
