"""Right values that the next cells could not use: another container, a path without a gradient."""

import pytest
import torch

from labsupport.checking.exercise import Exercise


def pair(x):
    return x.tolist(), x * 2


CASES = [(torch.arange(3.0),), (torch.ones(2),)]


def test_a_list_where_the_reference_has_one():
    exercise = Exercise("q", lambda x: x.tolist(), CASES, returns="list")
    assert exercise.check(lambda x: [float(v) for v in x]).status == "correct"
    for answer, name in ((lambda x: tuple(x.tolist()), "a tuple"), (lambda x: x.clone(), "a Tensor")):
        result = exercise.check(answer)
        assert (
            result.message
            == f"Its values are right, but it returned {name} where the next cells need a list."
        )
        assert result.evidence == "This was in case 1, for x=[0.0, 1.0, 2.0]."


def test_a_tensor_where_the_reference_has_one_in_whatever_container():
    exercise = Exercise("q", pair, CASES, returns="tensor")
    assert exercise.check(lambda x: [x.tolist(), x + x]).status == "correct"
    assert exercise.check(lambda x: (x, x + x)).status == "correct"
    assert (
        "a ndarray where the next cells need a tensor"
        in exercise.check(lambda x: (x, (x + x).numpy())).message
    )
    assert "a list where" in exercise.check(lambda x: (x, (x + x).tolist())).message
    named = Exercise("q", lambda x: {"sum": x.sum(), "n": len(x)}, CASES, returns="tensor")
    assert named.check(lambda x: {"sum": x.sum(), "n": len(x)}).status == "correct"
    assert "a float where" in named.check(lambda x: {"sum": x.sum().item(), "n": len(x)}).message


def test_any_container_will_do_where_nothing_is_required():
    exercise = Exercise("q", pair, CASES)
    assert exercise.check(lambda x: [tuple(x), (x + x).numpy()]).status == "correct"


def trained_cases():
    x, A, B = (torch.arange(float(n)).add(1).requires_grad_() for n in (3, 3, 3))
    return [(x, A, B), (x.detach() * 2, A.detach().clone().requires_grad_(), B)]


def forward(x, A, B):
    return (x * A * B).sum() + (A * B).sum()


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (lambda x, A, B: forward(x, A.detach(), B), "no gradient reaches A: something like .detach()"),
        (lambda x, A, B: forward(x, A, B.data), "no gradient reaches B"),
        (lambda x, A, B: forward(x, A, B).item(), "it has no gradient"),
        (lambda x, A, B: (x * A * B).sum() + (A.detach() * B).sum(), "the gradient that reaches A is not"),
    ],
)
def test_every_path_must_give_its_gradient(answer, text):
    exercise = Exercise("q", forward, trained_cases)
    assert exercise.check(lambda x, A, B: torch.dot(x + 1, A * B)).status == "correct"
    message = exercise.check(answer).message
    assert message.startswith("Its values are right, but ") and text in message


def test_a_graph_that_is_used_up_gives_no_gradient():
    def used(x, A, B):
        result = forward(x, A, B) ** 2
        torch.autograd.grad(result, A)
        return result

    exercise = Exercise("q", lambda x, A, B: forward(x, A, B) ** 2, trained_cases)
    assert "no gradient reaches" in exercise.check(used).message


def test_an_argument_that_the_reference_gives_no_gradient_needs_none():
    exercise = Exercise("q", lambda x, A, B: (x * A).sum() + B.detach().sum(), trained_cases)
    assert exercise.check(lambda x, A, B: (A * x).sum() + B.sum()).status == "correct"
