"""Running a learner's function: on copies, and what it did instead of returning a result."""

import functools

import numpy as np
import pytest
import torch

from labsupport.checking import running
from labsupport.checking.exercise import Exercise


def scaled(x, alpha, rank):
    return x * alpha / rank


def scaling():
    return Exercise("lora.scaling", scaled, [(1.0, 16, 8), (3.0, 32, 8)])


def test_not_implemented_from_a_library_is_an_error_of_an_attempt():
    def attempt(x, alpha, rank):
        return torch.nn.Module()(x)

    result = scaling().check(attempt)
    assert result.status == "wrong"
    assert result.message.startswith("It raised NotImplementedError (Module [Module] is missing the required")
    assert f"in line {attempt.__code__.co_firstlineno + 1}, `return torch.nn.Module()(x)`," in result.message


def test_not_implemented_in_a_helper_of_the_learners_is_still_to_do():
    def helper(x):
        raise NotImplementedError

    result = scaling().check(lambda x, alpha, rank: helper(x))
    assert result.status == "not attempted" and result.message == "It still raises NotImplementedError."


class NotCallable:
    def unfinished(self):
        pass


def test_what_has_no_code_is_no_stub():
    assert not running.is_stub(abs) and not running.is_stub(3) and not running.is_stub(NotCallable())
    assert Exercise("q", abs, [(-1,), (2,)]).check(abs).status == "correct"


def test_exception_names_type_message_line_and_source():
    def dividing(x, alpha, rank):
        return x / (rank - 8)

    line = dividing.__code__.co_firstlineno + 1
    message = scaling().check(dividing).message
    assert message == (
        "It raised ZeroDivisionError (float division by zero) "
        f"in line {line}, `return x / (rank - 8)`, in case 1."
    )


def test_line_is_the_learners_even_if_a_library_raised():
    def reading(x, alpha, rank):
        size = np.ones(3)
        return size.reshape(2, 2)

    message = scaling().check(reading).message
    line = reading.__code__.co_firstlineno + 2
    assert message.startswith(
        "It raised ValueError (cannot reshape array of size 3 into shape (2,2)) "
        f"in line {line}, `return size.reshape(2, 2)`, in case 1"
    )


def test_a_function_whose_source_is_unknown_has_a_line_all_the_same():
    namespace = {}
    exec("def nameless(x, alpha, rank):\n    return x / 0", namespace)
    message = scaling().check(namespace["nameless"]).message
    assert message.startswith("It raised ZeroDivisionError (float division by zero) in line 2, in case 1.")


def test_exception_with_a_broken_text_and_a_long_one():
    class Broken(Exception):
        def __str__(self):
            raise ValueError

    def broken(x, alpha, rank):
        raise Broken

    text = "word " * 100 + chr(10) + "second"

    def long(x, alpha, rank):
        raise ValueError(text)

    assert "It raised Broken in line" in scaling().check(broken).message
    message = scaling().check(long).message
    assert message.startswith(f"It raised ValueError ({text[:157]}...) in line")
    assert "second" not in message and chr(10) not in message


def test_an_error_text_of_160_characters_is_not_cut():
    assert running.error_text(ValueError("x" * 160)) == f"ValueError ({'x' * 160})"
    assert running.error_text(ValueError("x" * 161)) == f"ValueError ({'x' * 157}...)"
    assert running.error_text(ValueError()) == "ValueError"


def test_endless_recursion_is_a_sentence():
    def endless(x, alpha, rank):
        return endless(x, alpha, rank)

    message = scaling().check(endless).message
    assert message.startswith("It called itself without end (RecursionError) in line")
    assert "`return endless(x, alpha, rank)`" in message


def test_wrong_signature_says_how_it_is_called():
    message = scaling().check(lambda x, scale: x).message
    expected = "It is called with 3 arguments (x, alpha, rank), but your function takes (x, scale)."
    assert message == expected
    assert scaling().check(lambda x, alpha=1, rank=1, more=0: x * alpha / rank).status == "correct"
    assert scaling().check(lambda *x: x[0] * x[1] / x[2]).status == "correct"


def test_the_signature_is_shown_without_annotations():
    def annotated(x: float, *, alpha: int = 3) -> float:
        return x

    assert "takes (x, *, alpha=3) -> " not in scaling().check(annotated).message
    assert scaling().check(annotated).message.endswith("but your function takes (x, *, alpha=3).")


def test_one_argument_is_in_the_singular_and_a_builtin_without_signature_is_called():
    one = Exercise("q", lambda x: x, [(1.5,), (2.5,)])
    expected = "It is called with 1 argument (x), but your function takes ()."
    assert one.check(lambda: 1).message == expected
    assert one.check(max).message.startswith("It raised TypeError ('float' object is not iterable),")
    assert (
        Exercise("q", lambda *x: min(x), [(1, 2)])
        .check(lambda: 1)
        .message.startswith("It is called with 2 arguments (x), ")
    )


def test_arguments_without_names_are_numbered():
    result = Exercise("q", max, [(3, 4)]).check(lambda x, y: 0)
    assert result.evidence.startswith("In case 1, for argument 1=3, argument 2=4, it returned 0 where 4")


def test_class_partial_and_callable_object_can_be_checked():
    class Scale:
        def __call__(self, x, alpha, rank):
            return x * alpha / rank

    class Broken:
        def __init__(self, x, alpha, rank):
            self.value = missing  # noqa: F821

    assert scaling().check(Scale()).status == "correct"
    assert "`self.value = missing" in scaling().check(Broken).message
    assert scaling().check(functools.partial(scaled, rank=8)).message.startswith("It is called with 3 arg")
    assert scaling().check(functools.partial(lambda zero, x, a, r: x * a / r, 0)).status == "correct"
    assert "1 / zero" in scaling().check(functools.partial(lambda zero, *rest: 1 / zero, 0)).message


def test_decorated_stubs_are_stubs():
    def stub(x, alpha, rank):
        """What to do."""

    class Stub:
        def __call__(self, x, alpha, rank):
            pass

    for unfinished in (functools.cache(stub), functools.partial(stub), Stub(), functools.partial(Stub())):
        assert scaling().check(unfinished).status == "not attempted"


def test_printing_function_is_fine(capsys):
    def chatty(x, alpha, rank):
        print("debug")
        return x * alpha / rank

    assert scaling().check(chatty).status == "correct"
    assert capsys.readouterr().out == "debug\n" * 2


# ---------------------------------------------------------------- copies


def sorted_in_place(rows):
    rows.sort()
    return rows


def test_a_function_that_changes_its_argument_is_told_which_and_the_cases_stay_whole():
    first, second = [1, 2, 3], [3, 1, 2]
    exercise = Exercise("q", sorted, [(first,), (second,), (second,)])
    result = exercise.check(sorted_in_place)
    assert result.status == "wrong"
    assert result.message == (
        "Its results are right, but it changes argument rows in place, so what the caller gave is changed "
        "too: work on a copy."
    ).replace("rows", "iterable")
    assert result.evidence == "This was in case 2, for iterable=[3, 1, 2]."
    assert (first, second) == ([1, 2, 3], [3, 1, 2])
    assert exercise.check(lambda rows: sorted_in_place(rows[:])).status == "correct"

    both = exercise.check(lambda rows: sorted_in_place(rows)[::-1])
    assert both.message.startswith("The order is reversed")
    assert both.evidence.endswith("It also changes argument iterable in place: work on a copy.")


def replaced(values):
    values[0] = values[1]


CHANGES = [
    ([1.0, 2.0], replaced),
    ([1, 2.0], replaced),
    (["a", "b"], replaced),
    ({0: "a", 1: "b"}, replaced),
    ({"a": object()}, lambda value: value.update(a=Exercise)),
    ({"a": {"b": [1]}}, lambda value: value["a"]["b"].append(2)),
    ((1, [2]), lambda value: value[1].clear()),
    (np.array([1.0, 1.0 + 1e-15]), replaced),
    (np.array([1, 2], np.uint8), replaced),
    (torch.tensor([1.0, 1.0000001]), replaced),
    (torch.tensor([2.0]), lambda value: value.neg_()),
    (torch.tensor([2.0]), lambda value: value.requires_grad_()),
    (torch.tensor([2.0], requires_grad=True), lambda value: value.requires_grad_(False)),
    (torch.tensor([2.0], requires_grad=True), lambda value: (value * 2).sum().backward()),
    (torch.tensor([2.0]), lambda value: setattr(value, "data", value.data.double())),
]


@pytest.mark.parametrize(("value", "change"), CHANGES)
def test_every_change_of_an_argument_is_seen(value, change):
    exercise = Exercise("q", lambda x, y: x, [(0, value)])
    message = exercise.check(lambda x, y: (change(y), x)[1]).message
    assert "Its results are right, but it changes argument y in place" in message
    assert exercise.check(lambda x, y: x).status == "correct"


def test_several_changed_arguments_and_those_without_a_name():
    def both(x, y):
        x.append(1)
        y.append(1)
        return 0

    two = Exercise("q", lambda first, second: 0, [([], [])])
    assert "it changes argument first and second in place" in two.check(both).message
    assert (
        "it changes argument 1 and 2 in place" in Exercise("q", lambda *x: 0, [([], [])]).check(both).message
    )


def test_objects_of_other_classes_count_as_unchanged():
    """A copy of a module is never equal to it."""
    exercise = Exercise("q", lambda net, x: x, [(torch.nn.Linear(1, 1), 1), ({"f": object()}, 2)])
    assert exercise.check(lambda net, x: x).status == "correct"


def test_results_are_taken_when_they_are_returned():
    for buffer in ([0.0], np.zeros(1), torch.zeros(1, dtype=torch.float64)):

        def reusing(x, kept=buffer):
            kept[0] = x
            return kept

        result = Exercise("q", lambda x: [x], [(1.0,), (2.0,)]).check(reusing)
        assert result.status == "correct", result
