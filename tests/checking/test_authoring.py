"""The faults of an exercise itself are found before a learner meets them."""

import numpy as np
import pytest

from labsupport.checking.authoring import ambiguities
from labsupport.checking.exercise import Exercise


def scaled(x, alpha, rank):
    return x * alpha / rank


def no_rank(x, alpha, rank):
    return x * alpha


def upside_down(x, alpha, rank):
    return x * rank / alpha


def changing(x, alpha, rank):
    x[0] *= alpha / rank
    return x[0]


def ranked(x, alpha, rank):
    """The rank has an effect, but not in the cases."""
    return x * alpha / min(rank, 8)


SQUARE = [(np.full((n, n), float(n)), 16 * n, 8 + n) for n in (2, 3)] + [(np.ones((2, 3)), 5, 4)]


def scaling(**changes):
    settings = {
        "name": "lora.scaling",
        "reference": scaled,
        "cases": [(1.0, 16, 8), (3.0, 32, 4)],
        "mistakes": [(no_rank, "You forgot to divide by r."), (upside_down, "Not r over alpha.")],
        "hints": ["Read the formula.", "Divide.", "x * alpha / rank"],
        "minutes": 5,
        "difficulty": 1,
    }
    return Exercise(**{**settings, **changes})


def test_sound_exercise_has_no_ambiguities():
    assert ambiguities(scaling()) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"cases": []}, "No cases."),
        ({"cases": [1.0]}, "A case is not a tuple of arguments."),
        ({"hints": ["a"] * 4}, "4 hints"),
        ({"mistakes": [(lambda x, a, r: a / r * x, "m")]}, "Mistake 1 gives the reference's"),
        ({"mistakes": [(no_rank, "m"), (lambda x, a, r: a * x, "n")]}, "same outputs as mistake 1"),
        (
            {"mistakes": [(lambda x, a, r: 1 / 0, "m")]},
            "Mistake 1 raises ZeroDivisionError (division by zero).",
        ),
        ({"mistakes": [(no_rank, "m"), (upside_down, "m")]}, "Two mistakes have the same message"),
        ({"mistakes": [(lambda x, a, r: None, "m")]}, "Mistake 1 is told: Write the function"),
        ({"mistakes": [(lambda x, a, r: ..., "m")]}, "Mistake 1 is told: It still returns `...`."),
        ({"reference": lambda x, a, r: 1 / 0}, "The reference raises."),
        ({"reference": lambda x, a, r: object()}, "does not pass its own check"),
        (
            {"cases": [(1e-5, 16, 8), (2e-5, 8, 4)], "mistakes": []},
            "1e-06 passes wrong answers: set a",
        ),
        ({"cases": [(1.0, 16, 8), (3.0, 32, 8)]}, "Argument rank is the same in every case."),
        ({"minutes": None}, "minutes is None: give a whole number from 1 to 90."),
        ({"minutes": 2.5}, "minutes is 2.5"),
        ({"difficulty": None}, "difficulty is None: give 1, 2 or 3."),
        ({"difficulty": 4}, "difficulty is 4"),
        (
            {"reference": ranked, "mistakes": [], "cases": [(1.0, 16, 8), (3.0, 32, 9)]},
            "Argument rank could be left out: as in case 1, it passes everywhere.",
        ),
        (
            {"reference": lambda x, a, r: float(x[0, 0] * a / r), "mistakes": [], "cases": SQUARE[:2]},
            "Argument x is square in every case: a transposed one would not be seen.",
        ),
        (
            {"reference": changing, "mistakes": [], "cases": [([1.0], 2, 4), ([2.0], 4, 3)]},
            "The reference does not pass its own check: Its results are right, but it changes argument x",
        ),
    ],
)
def test_ambiguities_name_the_fault(changes, problem):
    found = ambiguities(scaling(**changes))
    assert len(found) == 1 and f" {problem}" in f" {found[0]}"


def test_a_matrix_that_is_square_in_some_cases_only_is_fine():
    rows = {"reference": lambda x, a, r: x.sum(0) * a / r, "mistakes": [], "cases": SQUARE}
    assert ambiguities(scaling(**rows)) == []
    result = ambiguities(scaling(**rows | {"reference": lambda x, a, r: x @ x.T * a / r}))
    assert result == ["The expected result is square in every case: a transposed one would not be seen."]


def test_a_mistake_may_raise_as_wrong_shapes_do():
    products = [(np.ones((2, 3)), 16, 8), (np.full((2, 2), 0.5), 5, 4)]
    changes = {"reference": lambda x, a, r: x.T @ x * a / r, "cases": products}
    swapped = [(lambda x, a, r: x @ x * a / r, "Transpose it.")]
    assert ambiguities(scaling(**changes, mistakes=swapped)) == [
        "The expected result is square in every case: a transposed one would not be seen."
    ]


def test_values_that_are_not_finite_are_not_small():
    def inverse(x, alpha, rank):
        return [x * alpha / rank, float("inf") if rank == 8 else float("nan")]

    for reference in (inverse, lambda x, a, r: float("inf") * a * r * x):
        problems = ambiguities(scaling(reference=reference, mistakes=[]))
        assert not [problem for problem in problems if "tolerance" in problem]


@pytest.mark.parametrize("held", [lambda x: {"a": x}, lambda x: ["word", x], lambda x: [1, [x]]])
def test_small_values_are_seen_in_containers(held):
    small = scaling(reference=lambda x, a, r: held(x * a * r * 1e-6), mistakes=[])
    assert len(ambiguities(small)) == 1 and "set a smaller tolerance" in ambiguities(small)[0]
    assert ambiguities(scaling(reference=lambda x, a, r: held(x * a * r), mistakes=[])) == []


def test_small_values_are_fine_with_a_smaller_tolerance():
    changes = {"cases": [(1e-5, 16, 8), (2e-5, 32, 4)], "tolerance": 1e-9}
    assert ambiguities(scaling(**changes)) == []
