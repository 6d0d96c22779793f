"""Notebook 02's questions."""

from labsupport.notebooks.nb02_lora_math import questions


def test_questions():
    assert questions.QUESTIONS[0].answer() == 4096 * 32
    assert [sum(c.right for c in q.choices) for q in questions.QUESTIONS[1:4]] == [1, 1, 1]
