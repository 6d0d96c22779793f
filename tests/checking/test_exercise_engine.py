"""The exercise engine: every kind of answer gets the right verdict and its own diagnosis."""

import random
import subprocess
import sys
from collections import OrderedDict

import numpy as np
import pytest

from labsupport.checking.exercise import Exercise, ambiguities


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


def verdict(expected, got, **settings):
    return giving(expected, **settings).check(lambda: got)


# The three verdicts


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


def test_not_implemented_from_a_library_is_an_error_of_an_attempt():
    torch = pytest.importorskip("torch")

    def attempt(x, alpha, rank):
        return torch.nn.Module()(x)

    result = scaling().check(attempt)
    assert result.status == "wrong"
    assert "NotImplementedError" in result.message and "torch.nn.Module()(x)" in result.message


def test_each_mistake_gets_its_own_message():
    assert scaling().check(lambda x, a, r: a * x).message == "You forgot to divide by r."
    assert scaling().check(lambda x, a, r: x / (a / r)).message == "Not r over alpha."


def test_mistake_must_match_in_every_case():
    def right_then_mistaken(x, alpha, rank):
        return scaled(x, alpha, rank) if x == 1.0 else no_rank(x, alpha, rank)

    message = scaling().check(right_then_mistaken).message
    assert "largest difference is 84 where 12 was expected, in case 2" in message
    assert "arguments x=3.0, alpha=32, rank=8." in message


def test_mistake_speaks_before_shape_type_and_nan():
    expected = np.ones((2, 3))
    wrong = [(lambda: expected.T, "Transposed."), (lambda: [np.nan] * 2, "Divided by zero.")]
    exercise = giving(expected, mistakes=[*wrong, (lambda: "1", "Parse it.")])
    assert exercise.check(lambda: np.ones((3, 2))).message == "Transposed."
    assert exercise.check(lambda: [float("nan")] * 2).message == "Divided by zero."
    assert exercise.check(lambda: "1").message == "Parse it."


def test_raising_mistake_does_not_spoil_the_check():
    def raising(x, alpha, rank):
        raise ValueError

    result = scaling(mistakes=[(raising, "no"), (no_rank, "yes")]).check(no_rank)
    assert result.message == "yes"


# Bad input


def test_exception_names_type_message_line_and_source():
    def dividing(x, alpha, rank):
        return x / (rank - 8)

    line = dividing.__code__.co_firstlineno + 1
    message = scaling().check(dividing).message
    assert message == (
        "It raised ZeroDivisionError (float division by zero) "
        f"in line {line}, `return x / (rank - 8)`, in case 1: arguments x=1.0, alpha=16, rank=8."
    )


def test_line_is_the_learners_even_if_a_library_raised():
    def reading(x, alpha, rank):
        size = np.ones(3)
        return size.reshape(2, 2)

    message = scaling().check(reading).message
    assert "`return size.reshape(2, 2)`" in message and "Traceback" not in message


@pytest.mark.parametrize("error", [SystemExit(3), GeneratorExit(), MemoryError(), BaseException()])
def test_no_exception_escapes(error):
    def raising(x, alpha, rank):
        raise error

    result = scaling().check(raising)
    assert result.status == "wrong" and type(error).__name__ in result.message


def test_keyboard_interrupt_passes_through():
    def interrupted(x, alpha, rank):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scaling().check(interrupted)


def test_exception_with_a_broken_text_and_a_long_one():
    class Broken(Exception):
        def __str__(self):
            raise ValueError

    def broken(x, alpha, rank):
        raise Broken

    def long(x, alpha, rank):
        raise ValueError("word " * 100 + chr(10) + "second")

    assert "It raised Broken in line" in scaling().check(broken).message
    message = scaling().check(long).message
    assert len(message) < 350 and chr(10) not in message


def test_endless_recursion_is_a_sentence():
    def endless(x, alpha, rank):
        return endless(x, alpha, rank)

    message = scaling().check(endless).message
    assert message.startswith("It called itself without end (RecursionError) in line")
    assert "`return endless(x, alpha, rank)`" in message


def test_result_instead_of_function():
    message = scaling().check(2.0).message
    assert message.startswith("This is not a function but 2.0 (float).")


def test_wrong_signature_says_how_it_is_called():
    message = scaling().check(lambda x, scale: x).message
    expected = "It is called with 3 arguments (x, alpha, rank), but your function takes (x, scale)."
    assert message == expected
    assert scaling().check(lambda x, alpha=1, rank=1, more=0: x * alpha / rank).status == "correct"


def test_missing_return():
    def forgetful(x, alpha, rank):
        x = x * alpha / rank

    message = scaling().check(forgetful).message
    assert message.startswith("Your function returned None: is a return statement missing?")


def test_none_may_be_the_right_answer():
    assert verdict(None, {}).message.startswith("It returned a dict where None was expected")
    assert Exercise("q", lambda x: None, [(1,)]).check(lambda x: x and None).status == "correct"


@pytest.mark.parametrize(
    ("expected", "got", "text"),
    [
        (1.5, "1.5", "It returned a str ('1.5') where a number (float) was expected"),
        (1.5, [1.5], "It returned a list of shape (1,) where a number (float) was expected"),
        ([1.5], 1.5, "It returned a float (1.5) where a list of shape (1,) was expected"),
        ({"a": 1}, [1], "It returned a list of shape (1,) where a dict was expected"),
        ("abc", 3, "It returned an int (3) where a str was expected"),
        ({"a": [1, "x"]}, {"a": [1, 2]}, "It returned an int (2) at ['a'][1] where a str"),
        ([1, 2], (x for x in [1, 2]), "It returned a generator where a list of shape (2,)"),
        (0.5, float("nan"), "It returned NaN, not a finite number"),
        (5, float("inf"), "It returned infinity, not a finite number"),
        ([1.0, 2.0], [1.0, np.nan], "It returned NaN in 1 of 2 values, not a finite number"),
        (np.ones((2, 3)), np.ones((3, 2)), "shape (3, 2) where (2, 3) was expected"),
        ([1, 2, 3], [1, 2], "It returned length 2 where 3 was expected"),
        (["a", "b"], ["a"], "It returned length 1 where 2 was expected"),
        ({"a": 1, "b": 2}, {"a": 1, "c": 2}, "it misses 'b' and has 'c' too many"),
        ({"a": {"b": 1}}, {"a": {}}, "Its dict at ['a'] has other keys: it misses 'b'"),
        ([1 > 0, 1 > 0], [True, False], "returned False where True was expected (element [1])"),
        (24576, 12288, "The largest difference is 12,288 where 24,576 was expected"),
        ([1.0, 2.0], [1.0, 2.5], "difference is 0.5 where 2 was expected (element [1])"),
        ("a b", "a  b", "It returned 'a  b' where 'a b' was expected"),
        ("x" * 99, "x" * 80 + "y" * 19, "Its text differs from character 81 on"),
        (np.array([1, 2], np.uint8), [1, 3], "The largest difference is 1 where 2 was expected"),
    ],
)
def test_diagnosis(expected, got, text):
    result = verdict(expected, got)
    assert result.status == "wrong"
    assert text in result.message
    assert result.message.endswith(", in case 1: arguments (none).")


def test_shape_speaks_before_a_large_difference_in_another_case():
    exercise = Exercise("q", lambda n: np.ones(n), [(2,), (3,)])
    message = exercise.check(lambda n: np.full(2, 99.0)).message
    assert "length 2 where 3 was expected, in case 2" in message


def test_results_that_cannot_be_judged():
    endless = []
    endless.append(endless)

    class Unequal:
        def __eq__(self, other):
            raise ValueError("no")

    assert "could not judge" in verdict(1.0, endless).message
    assert verdict(1.0, Unequal()).status == "wrong"
    assert "could not judge" in verdict(Unequal(), Unequal()).message


def test_broken_reference_is_not_the_learners_fault():
    def broken(x, alpha, rank):
        raise ImportError("no bitsandbytes")

    result = scaling(reference=broken).check(scaled)
    assert result.status == "not attempted"
    assert "no bitsandbytes" in result.message and "course's fault" in result.message


# Alternative right answers


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        ([1, 2], (1, 2)),
        ([1, 2], np.array([1, 2])),
        (np.array([[1.0, 2.0]]), [[1, 2]]),
        ([1, 0.5], np.array([1.0, 0.5])),
        ((3, 0.5, "a"), [3.0, 0.5, "a"]),
        (3, 3.0),
        (3.0, np.int64(3)),
        (True, 1),
        (1, True),
        (True, np.bool_(True)),
        (0.3, 0.1 + 0.2),
        (2**70, 2**70),
        ("a", np.str_("a")),
        (["a", "b"], np.array(["a", "b"])),
        ({"a": 1, "b": [1.0]}, OrderedDict(b=(1,), a=np.float64(1))),
        ([-np.inf, 0.0], [-np.inf, 0.0]),
        ([np.nan, 1.0], [np.nan, 1.0]),
        ([], ()),
        ([0, 1, 2], range(3)),
    ],
)
def test_other_containers_pass(expected, got):
    result = verdict(expected, got)
    assert result.status == "correct", result


def test_tensors_pass_for_lists_arrays_and_scalars():
    torch = pytest.importorskip("torch")
    parameter = torch.nn.Parameter(torch.tensor([0.1, 0.2]))
    assert verdict([0.1, 0.2], parameter * 1).status == "correct"
    assert verdict(parameter, np.array([0.1, 0.2])).status == "correct"
    assert verdict(torch.ones(2, 2), [torch.ones(2), torch.ones(2)]).status == "correct"
    assert verdict(2.0, torch.tensor(2.0)).status == "correct"
    assert verdict(torch.tensor(2), 2).status == "correct"
    assert verdict(7, torch.tensor([7])).status == "wrong"
    assert "shape (3, 2)" in verdict(torch.ones(2, 3), torch.ones(3, 2)).message


def test_tolerances_follow_the_references_dtype():
    torch = pytest.importorskip("torch")

    def status(expected, got, **settings):
        return verdict(expected, got, **settings).status

    assert status(1.0, 1.0 + 1e-7) == "correct"
    assert status(1.0, 1.0 + 5e-6) == "wrong"
    single, half = torch.tensor([1.0]), torch.tensor([1.0], dtype=torch.bfloat16)
    assert status(single, [1.0 + 5e-6]) == "correct"
    assert status(single, [1.0 + 5e-5]) == "wrong"
    assert status(half, [1.005]) == "correct"
    assert status(half, [1.05]) == "wrong"
    assert status(single, torch.tensor([1.0078125], dtype=torch.bfloat16)) == "wrong"
    assert status(1.0, 1.05, tolerance=0.1) == "correct"
    assert status(1.0, 1.0 + 1e-7, tolerance=1e-9) == "wrong"


def test_half_precision_is_named():
    torch = pytest.importorskip("torch")
    message = verdict(torch.tensor([0.3]), torch.tensor([0.3], dtype=torch.bfloat16)).message
    assert "(your values are bfloat16, the expected ones float32)" in message


def test_integers_are_exact_whatever_stands_beside_them():
    assert verdict(24_576_000, 24_576_001).status == "wrong"
    assert verdict(24_576_000, 24_576_001.0).status == "wrong"
    assert verdict([24_576_000, 0.5], [24_576_001, 0.5]).status == "wrong"
    assert verdict([24_576_000, 0.5], np.array([24_576_001, 0.5])).status == "wrong"
    assert verdict(10, 11, tolerance=0.5).status == "wrong"
    assert verdict(2**60, 2**60 + 1).status == "wrong"


# Fairness of a run


def test_changed_arguments_spoil_nothing():
    given = [3, 1, 2]
    exercise = Exercise("q", lambda rows: [*rows, 0], [(given,), (given,)])

    def appending(rows):
        rows.append(0)
        return rows

    assert exercise.check(appending).status == "correct"
    assert given == [3, 1, 2]


def test_results_are_taken_when_they_are_returned():
    torch = pytest.importorskip("torch")
    for buffer in ([0.0], np.zeros(1), torch.zeros(1, dtype=torch.float64)):

        def reusing(x, kept=buffer):
            kept[0] = x
            return kept

        result = Exercise("q", lambda x: [x], [(1.0,), (2.0,)]).check(reusing)
        assert result.status == "correct", result


def test_everyone_draws_the_same_random_numbers():
    torch = pytest.importorskip("torch")

    def drawing():
        return [random.random(), np.random.rand(), torch.rand(()).item()]

    random.seed()
    exercise = Exercise("q", drawing, [(), ()])
    assert exercise.check(lambda: drawing()).status == "correct"
    assert exercise.check(lambda: drawing() and drawing()).status == "wrong"


def test_printing_function_is_fine(capsys):
    def chatty(x, alpha, rank):
        print("debug")
        return x * alpha / rank

    assert scaling().check(chatty).status == "correct"
    assert capsys.readouterr().out == "debug\n" * 2


def test_class_partial_and_callable_object_can_be_checked():
    class Scale:
        def __call__(self, x, alpha, rank):
            return x * alpha / rank

    class Broken:
        def __init__(self, x, alpha, rank):
            self.value = missing  # noqa: F821

    assert scaling().check(Scale()).status == "correct"
    assert "`self.value = missing" in scaling().check(Broken).message


def test_messages_carry_no_addresses_and_abbreviate():
    exercise = Exercise("q", lambda x, f: 1.0, [(np.zeros((50, 4)), scaled)])
    message = exercise.check(lambda x, f: 2.0).message
    assert "x=ndarray of shape (50, 4)" in message and "0x" not in message
    long = Exercise("q", lambda text: 1.0, [("word " * 500,)]).check(lambda text: 2.0)
    assert len(long.message) < 250


def test_cases_from_a_function_are_made_only_for_a_check():
    made = []

    def cases():
        made.append(1)
        return [(1.0, 16, 8)]

    exercise = scaling(cases=cases)
    assert made == []
    assert exercise.check(scaled).status == "correct"
    assert made


# Hints and going on


def test_hints_escalate_and_end_with_the_solution():
    exercise = scaling(solution="solutions/02_lora_math.ipynb")
    shown = [repr(exercise.hint()) for _ in range(5)]
    assert shown[0] == "Hint 1 of 3: Read the formula."
    assert shown[1] == "Hint 2 of 3: Divide."
    assert shown[2] == "Hint 3 of 3: x * alpha / rank"
    ending = " The worked solution is in solutions/02_lora_math.ipynb."
    assert shown[3] == shown[4] == shown[2] + ending


def test_no_hints_says_so():
    assert "no hints" in scaling(hints=[]).hint()


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


# Faults of an exercise itself


def test_sound_exercise_has_no_ambiguities():
    assert ambiguities(scaling()) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"cases": []}, "No cases."),
        ({"cases": [1.0]}, "A case is not a tuple"),
        ({"hints": ["a"] * 4}, "4 hints"),
        ({"mistakes": [(lambda x, a, r: a / r * x, "m")]}, "Mistake 1 gives the reference's"),
        ({"mistakes": [(no_rank, "m"), (lambda x, a, r: a * x, "n")]}, "same outputs as mistake 1"),
        ({"mistakes": [(lambda x, a, r: 1 / 0, "m")]}, "Mistake 1 raises."),
        ({"mistakes": [(no_rank, "m"), (upside_down, "m")]}, "Two mistakes have the same message"),
        ({"mistakes": [(lambda x, a, r: None, "m")]}, "Mistake 1 is told: Write the function"),
        ({"reference": lambda x, a, r: 1 / 0}, "The reference raises."),
        ({"reference": lambda x, a, r: object()}, "does not pass its own check"),
        ({"cases": [(1e-5, 16, 8)], "mistakes": []}, "set a smaller tolerance"),
    ],
)
def test_ambiguities_name_the_fault(changes, problem):
    found = ambiguities(scaling(**changes))
    assert len(found) == 1 and problem in found[0]


def test_small_values_are_fine_with_a_smaller_tolerance():
    changes = {"cases": [(1e-5, 16, 8), (2e-5, 32, 8)], "tolerance": 1e-9}
    assert ambiguities(scaling(**changes)) == []


def test_a_check_without_tensors_imports_no_torch():
    code = (
        "import sys, labsupport.teaching.predictions, labsupport.teaching.claims\n"
        "from labsupport.checking.exercise import Exercise\n"
        "assert Exercise('q', abs, [(-1.5,)]).check(lambda x: -x).status == 'correct'\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
