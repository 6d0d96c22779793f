"""An exercise: the three verdicts, what speaks first in a wrong one, hints, and going on."""

import numpy as np
import pytest

from labsupport.checking.exercise import Exercise


def scaled(x, alpha, rank):
    return x * alpha / rank


def no_rank(x, alpha, rank):
    return x * alpha


def upside_down(x, alpha, rank):
    return x * rank / alpha


def scaling(**changes):
    settings = {
        "name": "lora.scaling",
        "reference": scaled,
        "cases": [(1.0, 16, 8), (3.0, 32, 8)],
        "mistakes": [(no_rank, "You forgot to divide by r."), (upside_down, "Not r over alpha.")],
        "hints": ["Read the formula.", "Divide.", "x * alpha / rank"],
    }
    return Exercise(**{**settings, **changes})


def giving(value, **settings):
    """An exercise without arguments whose right answer is the value."""
    return Exercise("quiz.value", lambda: value, [()], **settings)


# ---------------------------------------------------------------- the three verdicts


def test_right_answer_is_shown_as_one_line_and_not_printed(capsys):
    result = scaling().check(lambda x, alpha, rank: alpha / rank * x)
    assert result.status == "correct"
    assert repr(result) == "lora.scaling: correct. It gives the right result in every case."
    assert capsys.readouterr().out == ""


def test_stubs_are_not_attempted():
    def raising(x, alpha, rank):
        raise NotImplementedError("your turn")

    def passing(x, alpha, rank):
        pass

    def documented(x, alpha, rank):
        """What to do."""

    def dotted(x, alpha, rank):
        """What to do."""
        ...

    def returning_dots(x, alpha, rank):
        return ...

    def half_filled(x, alpha, rank):
        factor = ...  # your code
        return factor  # noqa: RET504

    stubs = [None, ..., raising, passing, documented, dotted, returning_dots, half_filled]
    for stub in stubs:
        result = scaling().check(stub)
        assert result.status == "not attempted", stub
        assert repr(result).startswith("lora.scaling: not attempted yet."), stub


def test_each_mistake_gets_its_own_message():
    assert scaling().check(lambda x, a, r: a * x).message == "You forgot to divide by r."
    assert scaling().check(lambda x, a, r: x / (a / r)).message == "Not r over alpha."


def test_mistake_must_match_in_every_case():
    def right_then_mistaken(x, alpha, rank):
        return scaled(x, alpha, rank) if x == 1.0 else no_rank(x, alpha, rank)

    result = scaling().check(right_then_mistaken)
    assert result.message == (
        "The largest difference is 84 where 12 was expected, in case 2. It is right only where x is 1."
    )
    assert result.evidence == (
        "In case 2, for x=3.0, alpha=32, rank=8, it returned 96 where 12 was expected. Right in 1 of 2 cases."
    )


def test_mistake_speaks_before_shape_type_and_nan():
    expected = np.ones((2, 3))
    wrong = [(lambda: expected.T, "Transposed."), (lambda: [np.nan] * 2, "Divided by zero.")]
    exercise = giving(expected, mistakes=[*wrong, (lambda: "1", "Parse it.")])
    assert exercise.check(lambda: np.ones((3, 2))).message == "Transposed."
    assert exercise.check(lambda: [float("nan")] * 2).message == "Divided by zero."
    assert exercise.check(lambda: "1").message == "Parse it."


def test_several_functions_may_be_one_mistake():
    both = scaling(mistakes=[((no_rank, upside_down), "Read the formula."), (lambda x, a, r: 0.0, "Not 0.")])
    assert both.check(lambda x, a, r: a * x).message == "Read the formula."
    assert both.check(lambda x, a, r: x * r / a).message == "Read the formula."
    assert both.check(lambda x, a, r: 0).message == "Not 0."


def test_a_mistake_that_raises_is_known_by_where_it_raises_and_what():
    cases = [(np.ones((2, 3)), np.ones((4, 2))), (np.full((2, 2), 3.0), np.full((2, 2), 0.5))]
    exercise = Exercise("q", lambda A, B: B @ A + A[:1], cases, [(lambda A, B: A @ B, "Swapped.")])
    assert exercise.check(lambda A, B: A.dot(B)).message == "Swapped."
    assert exercise.check(lambda A, B: A @ B + 1).message.startswith("It raised ValueError (matmul")
    only = Exercise("q", lambda A, B: B @ A, cases[:1], [(lambda A, B: A @ B, "Swapped.")])
    assert only.check(lambda A, B: 2 * A @ B).message == "Swapped."
    assert only.check(lambda A, B: A.reshape(7)).message.startswith("It raised ValueError (cannot reshape")


def test_the_smallest_case_that_is_wrong_is_shown():
    exercise = Exercise("q", lambda x: sum(x) > 5, [([9] * 8,), ([1, 2],), ([4, 4, 4],), ([3, 3],)])
    result = exercise.check(lambda x: len(x) > 2)
    assert result.evidence == (
        "In case 4, for x=[3, 3], it returned False where True was expected. Right in 3 of 4 cases."
    )


def test_raising_mistake_does_not_spoil_the_check():
    def raising(x, alpha, rank):
        raise ValueError

    result = scaling(mistakes=[(raising, "no"), (no_rank, "yes")]).check(no_rank)
    assert result.message == "yes"


# ---------------------------------------------------------------- wrong answers


def test_result_instead_of_function():
    message = scaling().check(2.0).message
    assert message.startswith("This is not a function but 2.0 (float).")


def test_missing_return():
    def forgetful(x, alpha, rank):
        x = x * alpha / rank

    message = scaling().check(forgetful).message
    assert message.startswith("Your function returned None: is a return statement missing?")


def test_a_return_that_is_missing_on_one_way_through():
    exercise = Exercise("q", lambda x: x > 1, [(1,), (2,), (3,)])
    message = exercise.check(lambda x: True if x > 1 else None).message
    assert message == "It returned None in case 1: does every way through it end with a return?"


def test_none_may_be_the_right_answer():
    assert giving(None).check(lambda: {}).message.startswith("It returned a dict where None was expected")
    assert Exercise("q", lambda x: None, [(1,)]).check(lambda x: x and None).status == "correct"


def test_shape_speaks_before_a_large_difference_in_another_case():
    exercise = Exercise("q", lambda n: np.ones(n), [(2,), (3,)])
    message = exercise.check(lambda n: np.full(2, 99.0)).message
    assert "length 2 where 3 was expected, in case 2" in message


def test_the_largest_difference_of_all_cases_speaks():
    exercise = Exercise("q", lambda x: float(x), [(1,), (2,), (3,)])
    wrong = {1: 1.5, 2: 4.5, 3: 3.5}
    assert exercise.check(wrong.__getitem__).message == (
        "The largest difference is 2.5 where 2 was expected, in case 2."
    )
    wrong = {1: 5.5, 2: 2.5, 3: 3.0}
    assert "difference is 4.5 where 1 was expected, in case 1" in exercise.check(wrong.__getitem__).message


def test_an_exercises_own_tolerance_decides_about_right_answers_mistakes_and_differences():
    coarse = giving([1.0, 5.0], tolerance=0.1, mistakes=[(lambda: [2.0, 5.0], "Twice.")])
    assert coarse.check(lambda: [1.1, 5.2]).status == "correct"
    assert coarse.check(lambda: [2.2, 5.2]).message == "Twice."
    assert coarse.check(lambda: [3.0, 6.2]).message.startswith("The largest difference is 2 where 1")
    assert coarse.check(lambda: [3.0, 5.2]).message == "Only element [0] is wrong; the rest is right."
    fine = giving([1.0], tolerance=1e-9)
    message = fine.check(lambda: [1.0 + 1e-7]).message
    assert message.startswith("The largest difference is 1e-07 where 1 was expected (element [0]), in case 1")


def test_results_that_cannot_be_judged():
    endless = []
    endless.append(endless)

    class Unequal:
        def __eq__(self, other):
            raise ValueError("no")

    text = "The check could not judge what it returned (RecursionError (maximum recursion depth exceeded"
    assert giving(1.0).check(lambda: endless).message.startswith(text)
    result = giving(1.0).check(lambda: Unequal())
    assert result.message.startswith("It returned an Unequal where a number (float) was expected")
    result = giving(Unequal()).check(lambda: Unequal())
    assert result.status == "wrong"
    assert result.message == (
        "The check could not judge what it returned (ValueError (no)). "
        "Return plain numbers, strings, lists, dicts or tensors."
    )


def test_broken_reference_is_not_the_learners_fault():
    def broken(x, alpha, rank):
        raise ImportError("no bitsandbytes")

    result = scaling(reference=broken).check(scaled)
    assert result.status == "not attempted"
    assert result.message == (
        "The reference solution fails here: ImportError (no bitsandbytes). "
        "That is the course's fault; your answer was not looked at."
    )


@pytest.mark.parametrize("error", [SystemExit(3), GeneratorExit(), MemoryError(), BaseException()])
def test_no_exception_escapes(error):
    def raising(x, alpha, rank):
        raise error

    result = scaling().check(raising)
    assert result.status == "wrong"
    assert result.message.startswith(f"It raised {type(error).__name__}")


def test_keyboard_interrupt_passes_through():
    def interrupted(x, alpha, rank):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scaling().check(interrupted)


def test_messages_carry_no_addresses_and_abbreviate():
    exercise = Exercise("q", lambda x, f: 1.0, [(np.zeros((50, 4)), scaled)])
    evidence = exercise.check(lambda x, f: 2.0).evidence
    assert evidence.startswith(
        "In case 1, for x of shape (50, 4), f=<function scaled>, it returned 2 where 1 was"
    )
    long = Exercise("q", lambda text, rows: 1.0, [("word " * 500, [{"text": "word" * 9}] * 9)])
    assert len(repr(long.check(lambda text, rows: 2.0))) < 330


def test_cases_from_a_function_are_made_only_for_a_check():
    made = []

    def cases():
        made.append(1)
        return [(1.0, 16, 8)]

    exercise = scaling(cases=cases)
    assert made == []
    assert exercise.check(scaled).status == "correct"
    assert made == [1]


# ---------------------------------------------------------------- hints and going on


def test_hints_escalate_and_end_with_the_solution(capsys):
    """Printed, because nothing else shows above another line of a cell; None, so that it shows once below."""
    exercise = scaling(name="lora_math.scaling")
    assert [exercise.hint() for _ in range(5)] == [None] * 5
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "Hint 1 of 3: Read the formula."
    assert shown[1] == "Hint 2 of 3: Divide."
    assert shown[2] == "Hint 3 of 3: x * alpha / rank"
    ending = " The worked solution is in solutions/02_lora_math.ipynb."
    assert shown[3] == shown[4] == shown[2] + ending


def test_no_hints_says_so(capsys):
    text = "lora.scaling: this exercise has no hints. The worked solution is in "
    scaling(hints=[], solution="an earlier edition").hint()
    assert capsys.readouterr().out == f"{text}an earlier edition.\n"


def test_effort_is_shown_in_dots_and_in_words():
    exercise = scaling(minutes=20, difficulty=2)
    assert exercise.effort == "20 minutes, ●●○"
    assert exercise.effort_in_words == "20 minutes, difficulty 2 of 3"
    assert scaling(minutes=1, difficulty=3).effort == "1 minute, ●●●"


def test_or_reference_goes_on_and_says_with_what(capsys):
    def mine(x, alpha, rank):
        return alpha * x / rank

    def stub(x, alpha, rank):
        raise NotImplementedError

    assert scaling().or_reference(mine) is mine
    assert capsys.readouterr().out == "lora.scaling: using your function.\n"
    for other in (stub, no_rank, None):
        assert scaling().or_reference(other)(1.0, 16, 8) == 2.0
        assert capsys.readouterr().out == (
            "lora.scaling: using the reference solution from here on, so that the rest runs.\n"
        )
