"""What all wrong results have in common is said, and only if they all have it."""

import math

import numpy as np
import pytest
import torch

from labsupport.checking.exercise import Exercise


def scaled(x, alpha, rank):
    return x * alpha / rank


CASES = [(1.0, 16, 11), (3.0, 7, 4), (2.5, 5, 8)]


def said(answer, reference=scaled, cases=CASES, **options):
    return Exercise("q", reference, cases, **options).check(answer).message


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (lambda x, a, r: -x * a / r, "The sign is wrong: it returns minus the expected result."),
        (lambda x, a, r: 2 * x * a / r, "It is 2 times the expected result in every case that is wrong."),
        (lambda x, a, r: x * a / r / 2, "It is 1/2 times the expected"),
        (lambda x, a, r: 1000 * x * a / r, "It is 1,000 times the expected"),
        (lambda x, a, r: x * a / r / 3600, "It is 1/3,600 times the expected"),
        (lambda x, a, r: x * a / r * math.log(2), "It is log 2 (0.693) times the expected"),
        (lambda x, a, r: x * a / r / math.log(2), "It is 1 / log 2 (1.44) times the expected"),
        (lambda x, a, r: 1.96 * x * a / r, "It is 1.96 times the expected"),
        (lambda x, a, r: -3 * x * a / r, "It is minus 3 times the expected"),
        (lambda x, a, r: 1.37 * x * a / r, "It is 1.37 times the expected"),
        (lambda x, a, r: x * a, "It is rank times the expected result."),
        (lambda x, a, r: x / r, "It is 1 / alpha times the expected result."),
        (lambda x, a, r: x, "It is rank / alpha times the expected result."),
        (lambda x, a, r: -x * a, "It is minus rank times the expected result."),
        (lambda x, a, r: x * a / math.sqrt(r), "It is the square root of rank times the expected result."),
        (lambda x, a, r: x * a**2, "It is alpha x rank times the expected result."),
        (lambda x, a, r: x * a / r + 1, "It is 1 too large in every case that is wrong."),
        (lambda x, a, r: x * a / r - 2500, "It is 2,500 too small in every case that is wrong."),
        (lambda x, a, r: x * a / r + r, "It is too large by rank."),
        (lambda x, a, r: r / (x * a), "It is the reciprocal of the expected result."),
        (lambda x, a, r: (x * a / r) ** 2, "It is the square of the expected result."),
        (lambda x, a, r: math.log(x * a / r), "It is the logarithm of the expected result."),
        (lambda x, a, r: 1 - x * a / r, "It is one minus the expected result."),
        (lambda x, a, r: x * a // r, "It is a whole number, cut off or rounded"),
        (lambda x, a, r: round(x * a / r, 1), "It is rounded: return all decimals."),
        (lambda x, a, r: 1.00003 * x * a / r, "The largest difference is"),
        (lambda x, a, r: x + a + r, "The largest difference is"),
    ],
)
def test_numbers(answer, text):
    message = said(answer)
    assert message.startswith(text)
    assert " 1 times" not in message and " 1.000 times" not in message


def test_it_must_hold_in_every_case_that_is_wrong():
    assert said(lambda x, a, r: 2 * scaled(x, a, r) if x > 1 else 3 * scaled(x, a, r)).startswith(
        "The largest"
    )
    more = [*CASES, (1.5, 3, 9)]
    assert said(lambda x, a, r: 2 * scaled(x, a, r) if x > 1 else scaled(x, a, r), cases=more).startswith(
        "It is 2 times"
    )


def test_of_one_number_everything_is_a_multiple():
    assert said(lambda x, a, r: 2 * scaled(x, a, r), cases=CASES[:1]).startswith("The largest difference")
    assert said(lambda x, a, r: 2 * scaled(x, a, r) if x > 2.6 else scaled(x, a, r)).startswith("The largest")


def matrices():
    return [(torch.arange(6.0).view(2, 3), 5), (torch.arange(1.0, 9).view(4, 2), 3)]


def product(A, alpha):
    return alpha / A.shape[0] * A


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (lambda A, a: product(A, a).T, "It is the transpose of the expected result."),
        (lambda A, a: product(A, a).flip(0), "The order is reversed: the last comes first."),
        (lambda A, a: product(A, a).flatten(), "The numbers are the right ones, but not their shape."),
        (lambda A, a: product(A, a)[:-1], "The last item is missing."),
        (lambda A, a: torch.cat([product(A, a), A[:1]]), "The last item is too many."),
        (lambda A, a: torch.cat([A[:1], product(A, a)]), "The first item is too many."),
        (lambda A, a: a * A, "It is A.shape[0] times the expected result."),
        (lambda A, a: product(A, a) * A.shape[1], "It is A.shape[1] times the expected result."),
    ],
)
def test_tensors(answer, text):
    assert said(answer, product, matrices) == text


def changed_at(*index):
    def answer(A, alpha):
        result = product(A, alpha).clone()
        result[index] += 5
        return result

    return answer


def test_one_element():
    assert (
        said(changed_at(1, 1), product, matrices)
        == "Only element [1, 1] is wrong: it is 5 too large in every case that is wrong."
    )
    assert said(changed_at(-1, -1), product, matrices) == "Exactly one element is wrong; the rest is right."
    last = Exercise("q", lambda n: list(range(n)), [(3,), (5,)])
    assert last.check(lambda n: [*range(n - 1), 99]).message == "Only the last element is wrong."
    label = Exercise("q", lambda x: {"a": x, "b": 2 * x}, [(1,), (3,)])
    assert label.check(lambda x: {"a": x, "b": 60 * x}).message == (
        "Only element ['b'] is wrong: it is 30 times the expected result in every case that is wrong."
    )
    text = Exercise("q", lambda x: [x, "right"], [("a",), ("b",)])
    assert text.check(lambda x: [x, "wrong"]).message == "Only element [1] is wrong; the rest is right."


def test_pairs_of_different_shapes_share_a_factor_and_a_sign():
    def pair(A, alpha):
        return product(A, alpha), alpha * A.sum(0)

    for answer, text in (
        (lambda A, a: [2 * x for x in pair(A, a)], "It is 2 times the expected"),
        (lambda A, a: [a * x for x in pair(A, a)], "It is alpha times the expected"),
        (lambda A, a: [-x for x in pair(A, a)], "The sign is wrong"),
        (lambda A, a: [pair(A, a)[0].T, pair(A, a)[1]], "It is the transpose"),
        (lambda A, a: pair(A, a)[::-1], "The order is reversed"),
    ):
        assert said(answer, pair, matrices).startswith(text)


def test_order_of_rows_of_any_kind():
    names = Exercise("q", lambda n: [f"{i}{n}" for i in range(n)], [(4,), (6,)])
    assert names.check(lambda n: [f"{i}{n}" for i in range(n)][::-1]).message.startswith(
        "The order is reversed"
    )
    turned = names.check(lambda n: [f"{i}{n}" for i in range(1, n)] + [f"0{n}"])
    assert turned.message == "The values are the right ones in another order."
    rows = Exercise("q", lambda n: [(f"row {i}", torch.full((i + 1,), 0.1)) for i in range(n)], [(3,), (5,)])
    turned = rows.check(lambda n: [(f"row {i}", np.full(i + 1, 0.1)) for i in (1, 0, *range(2, n))])
    assert turned.message == "The values are the right ones in another order."
    floats = Exercise("q", lambda n: np.sqrt(np.arange(n)), [(4,), (6,)])
    turned = floats.check(lambda n: torch.arange(n).sqrt()[[1, 0, *range(2, n)]])
    assert turned.message == "The values are the right ones in another order."


@pytest.mark.parametrize("got", [lambda x: "a", lambda x: {}, lambda x: [[x], 1], lambda x: True])
def test_other_kinds_of_results_have_nothing_in_common(got):
    message = Exercise("q", lambda x: float(x), [(2,), (3,)]).check(got).message
    assert message.startswith(("It returned", "The largest"))


def test_several_parts_of_a_dict():
    label = Exercise("q", lambda x: {"a": x, "b": 2 * x, "c": [x]}, [(1,), (3,)])
    assert label.check(lambda x: {"a": x, "b": 9, "c": [x, x]}).message == (
        "Only elements ['b'] and ['c'] are wrong; the rest is right."
    )


def test_a_verdict_that_errs_on_one_side():
    even = Exercise("q", lambda x: x % 2 == 0, [(n,) for n in range(8)])
    assert even.check(lambda x: True).message == "It is not strict enough: it says True where False is right."
    assert even.check(lambda x: x == 4).message == "It is too strict: it says False where True is right."
    assert even.check(lambda x: x % 2 == 1).message.startswith("It returned ")
    assert even.check(lambda x: x % 2 == 0 and x < 6).message.startswith("It returned False where True")


def test_offsets_by_products_of_arguments():
    cases = [
        ({"layers": n, "hidden": h, "tied": True}, r) for n, h, r in ((2, 64, 4), (3, 96, 8), (5, 48, 2))
    ]

    def count(config, rank):
        return config["layers"] * config["hidden"] ** 2 + rank

    more = said(lambda config, rank: count(config, rank) + config["layers"] * config["hidden"], count, cases)
    assert more == "It is too large by layers x hidden."
    less = said(lambda config, rank: count(config, rank) - 3 * config["layers"] * rank, count, cases)
    assert less == "It is too small by 3 x layers x rank."
