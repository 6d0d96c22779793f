"""What of the arguments tells the cases that are right from those that are wrong."""

import numpy as np

from labsupport.checking.exercise import Exercise
from labsupport.differences.conditions import told_apart


def test_a_switch():
    assert told_apart([{"x": 3, "double": True}], [{"x": 3, "double": False}, {"x": 4, "double": False}]) == (
        "It is wrong where double is False and right where it is True."
    )
    assert told_apart([{"config": {"tied": False}}], [{"config": {"tied": True}}]) == (
        "It is wrong where tied is True and right where it is False."
    )


def test_a_number_that_is_one_and_two_that_are_the_same():
    assert (
        told_apart([{"x": np.ones((1, 4))}], [{"x": np.ones((2, 4))}])
        == "It is right only where x.shape[0] is 1."
    )
    square, others = {"W": np.ones((3, 3))}, [{"W": np.ones((2, 3))}, {"W": np.ones((4, 3))}]
    assert told_apart([square], others) == "It is right only where W.shape[0] is W.shape[1]."


def test_nothing_is_said_where_nothing_tells_them_apart():
    cases = [{"x": 2, "again": True}, {"x": 3, "again": False}]
    assert told_apart(cases[:1], cases) is None
    assert told_apart([], cases) is None and told_apart(cases, []) is None
    assert told_apart([{"x": 2, "y": 2}], [{"x": 3, "y": 3}]) is None
    assert told_apart([{"name": "a"}], [{"name": "b"}]) is None


def test_a_learner_is_told():
    exercise = Exercise(
        "q", lambda n, twice: n**3 * (1 + twice), [(2, True), (3, False), (5, False), (7, True)]
    )
    message = exercise.check(lambda n, twice: n**3 + n * twice).message
    assert message.endswith(" It is wrong where twice is True and right where it is False.")
