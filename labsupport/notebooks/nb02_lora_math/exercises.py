"""The exercises of notebook 02, each with the mistakes people make."""

from __future__ import annotations

import math

from labsupport.models import lora
from labsupport.checking.exercise import Exercise

SOLUTION = "solutions/02_lora_math.ipynb"


def _random(*shapes, seed=0):
    """Random float32 tensors of these shapes, of the size 1."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator) for shape in shapes]


# ---------------------------------------------------------------- delta


def _delta_cases():
    # Square weights too, so that a swap of A and B or a transposition cannot hide behind an error.
    return [
        (*_random((4, 8), (8, 4), seed=1), 12),
        (*_random((2, 8), (8, 2), seed=2), 32.0),
        (*_random((1, 6), (6, 1), seed=3), 5),
    ]


def _alpha_alone(A, B, alpha):
    return alpha * B @ A


def _no_scale(A, B, alpha):
    return B @ A


def _root(A, B, alpha):
    return alpha / math.sqrt(A.shape[0]) * B @ A


def _swapped(A, B, alpha):
    return alpha / A.shape[0] * A @ B


def _transposed(A, B, alpha):
    return alpha / A.shape[0] * A.T @ B.T


def _by_width(A, B, alpha):
    return alpha / A.shape[1] * B @ A


def _rank_over_alpha(A, B, alpha):
    return A.shape[0] / alpha * B @ A


def _entrywise(A, B, alpha):
    return alpha / A.shape[0] * B * A.T


delta = Exercise(
    name="lora_math.delta",
    reference=lambda A, B, alpha: lora.delta(A, B, alpha),
    cases=_delta_cases,
    mistakes=[
        (_alpha_alone, "You multiply by alpha; the factor is alpha / r, and r is the number of rows of A."),
        (_no_scale, "The factor alpha / r is missing."),
        (_root, "alpha / sqrt(r) is rsLoRA's factor; LoRA's is alpha / r."),
        (
            _swapped,
            "A and B are swapped: A @ B is (r, r). The input meets A first, so A is on the right: B @ A.",
        ),
        (_transposed, "That is the transpose of the update: weights are (out, in), so it is B @ A."),
        (_by_width, "You divide by the width of A; the rank is its number of rows."),
        (_rank_over_alpha, "The factor is upside down: alpha / r, not r / alpha."),
        (_entrywise, "* multiplies entry by entry; the product of matrices is @."),
    ],
    hints=[
        "Which order of A (r, in) and B (out, r) gives a matrix of shape (out, in)?",
        "The rank is not an argument: read it from the shape of A.",
        "alpha / A.shape[0] * B @ A",
    ],
    solution=SOLUTION,
)

# ---------------------------------------------------------------- uniform_bound


def _deviation(fan_in, a):
    return math.sqrt(2 / ((1 + a**2) * fan_in))


def _not_rooted(fan_in, a):
    return 6 / ((1 + a**2) * fan_in)


def _no_gain(fan_in, a):
    return math.sqrt(3 / fan_in)


def _a_ignored(fan_in, a):
    return math.sqrt(6 / fan_in)


def _a_not_squared(fan_in, a):
    return math.sqrt(6 / ((1 + a) * fan_in))


def _one_over(fan_in, a):
    return 1 / math.sqrt(fan_in)


def _squared_width(fan_in, a):
    return math.sqrt(6 / (1 + a**2)) / fan_in


uniform_bound = Exercise(
    name="lora_math.uniform_bound",
    reference=lambda fan_in, a: lora.uniform_bound(fan_in, a),
    cases=[(576, math.sqrt(5)), (1536, math.sqrt(5)), (64, 0.0), (100, 0.2)],
    mistakes=[
        (
            _deviation,
            "That is the standard deviation. A uniform distribution on (-b, b) has b / sqrt(3): multiply.",
        ),
        (_not_rooted, "You return the bound squared: take the square root."),
        (_no_gain, "The gain is missing: it is sqrt(2 / (1 + a^2)), and it is 1 only for a = 1."),
        (_a_ignored, "You leave out a: the gain is sqrt(2 / (1 + a^2)), sqrt(2) only for a = 0."),
        (_a_not_squared, "a is squared in the gain: sqrt(2 / (1 + a^2))."),
        (
            _one_over,
            "1 / sqrt(fan_in) is right for a = sqrt(5) only; the function gets other values of a too.",
        ),
        (_squared_width, "You divide by fan_in; it belongs under the root."),
    ],
    hints=[
        "Kaiming's rule fixes the standard deviation: gain / sqrt(fan_in), with gain = sqrt(2 / (1 + a^2)).",
        "Which b gives U(-b, b) that standard deviation? The variance of U(-b, b) is b^2 / 3.",
        "b = sqrt(3) * sqrt(2 / (1 + a**2)) / sqrt(fan_in)",
    ],
    solution=SOLUTION,
)

# ---------------------------------------------------------------- forward


def _forward_cases():
    cases = []
    for n, rank, alpha, seed in ((8, 2, 6, 4), (6, 3, 2.0, 5)):
        x, weight, A, B = _random((5, n), (n, n), (rank, n), (n, rank), seed=seed)
        keep = _random((5, n), seed=seed + 9)[0] > 0
        cases.append((x, 2 * x * keep, weight, A, B, alpha))  # dropout of one half
    return cases


def _weight_transposed(x, dropped, weight, A, B, alpha):
    return x @ weight + lora.scale(alpha, A.shape[0]) * dropped @ A.T @ B.T


def _update_alone(x, dropped, weight, A, B, alpha):
    return lora.scale(alpha, A.shape[0]) * dropped @ A.T @ B.T


def _dropped_twice(x, dropped, weight, A, B, alpha):
    return lora.forward(dropped, dropped, weight, A, B, alpha)


def _never_dropped(x, dropped, weight, A, B, alpha):
    return lora.forward(x, x, weight, A, B, alpha)


def _dropped_base(x, dropped, weight, A, B, alpha):
    return lora.forward(dropped, x, weight, A, B, alpha)


def _forward_alpha(x, dropped, weight, A, B, alpha):
    return x @ weight.T + alpha * dropped @ A.T @ B.T


def _forward_unscaled(x, dropped, weight, A, B, alpha):
    return x @ weight.T + dropped @ A.T @ B.T


def _scaled_both(x, dropped, weight, A, B, alpha):
    return lora.scale(alpha, A.shape[0]) * (x @ weight.T + dropped @ A.T @ B.T)


def _update_transposed(x, dropped, weight, A, B, alpha):
    return x @ weight.T + lora.scale(alpha, A.shape[0]) * dropped @ B @ A


forward = Exercise(
    name="lora_math.forward",
    reference=lora.forward,
    cases=_forward_cases,
    mistakes=[
        (_weight_transposed, "A weight is (out, in), so the frozen path is x @ weight.T."),
        (_update_alone, "The frozen path is missing: add x @ weight.T."),
        (_dropped_twice, "Dropout on the frozen path too: that one gets the whole x."),
        (_never_dropped, "You do not use `dropped`: it is what goes into A."),
        (_dropped_base, "The wrong way round: x goes through the weight, `dropped` through A."),
        (_forward_alpha, "The update is scaled by alpha; the factor is alpha / r."),
        (_forward_unscaled, "The update is not scaled: multiply it by alpha / r."),
        (_scaled_both, "You scale the frozen path too: alpha / r belongs to the update alone."),
        (_update_transposed, "The input meets A first, then B: dropped @ A.T @ B.T."),
    ],
    hints=[
        "Two paths, added: the frozen weight, and A followed by B.",
        "With rows as vectors every matrix is transposed: x @ weight.T, and then @ A.T @ B.T.",
        "x @ weight.T + (alpha / A.shape[0]) * dropped @ A.T @ B.T",
    ],
    solution=SOLUTION,
)

# ---------------------------------------------------------------- factor_gradients


def _gradient_cases():
    import torch

    cases = [(*_random((6, 6), (2, 6), (6, 2), seed=seed), alpha) for seed, alpha in ((7, 4), (8, 1.0))]
    gradient, A = _random((6, 6), (3, 6), seed=9)
    return [*cases, (gradient, A, torch.zeros(6, 3), 12)]  # the last one is step 0


def _other_factor(G, A, B, alpha):
    return lora.factor_gradients(G, A, B, alpha)[::-1]


def _gradients_unscaled(G, A, B, alpha):
    return B.T @ G, G @ A.T


def _gradients_alpha(G, A, B, alpha):
    return alpha * B.T @ G, alpha * G @ A.T


def _scale_squared(G, A, B, alpha):
    s = lora.scale(alpha, A.shape[0])
    return s**2 * B.T @ G, s**2 * G @ A.T


def _gradient_transposed(G, A, B, alpha):
    return lora.factor_gradients(G.T, A, B, alpha)


def _descent(G, A, B, alpha):
    a, b = lora.factor_gradients(G, A, B, alpha)
    return -a, -b


def _own_factor(G, A, B, alpha):
    s = lora.scale(alpha, A.shape[0])
    return s * A @ G, s * G @ B


factor_gradients = Exercise(
    name="lora_math.factor_gradients",
    reference=lora.factor_gradients,
    cases=_gradient_cases,
    mistakes=[
        (_other_factor, "Right, but in the other order: return the gradient of A first, then B's."),
        (_gradients_unscaled, "The factor alpha / r is missing: it multiplies both gradients."),
        (_gradients_alpha, "You multiply by alpha; the factor is alpha / r."),
        (_scale_squared, "alpha / r enters each gradient once, not squared (the first step has it squared)."),
        (_gradient_transposed, "The gradient is (out, in), like the weight: do not transpose it."),
        (_descent, "That is the direction of descent: return the gradients, without the minus."),
        (_own_factor, "Each factor's gradient holds the other factor: B in A's gradient, A in B's."),
    ],
    hints=[
        "The weight is W + s B A. Move A a little: by how much does the weight move?",
        "The shapes decide: A's gradient is (r, in), from B (out, r) and the weight's gradient (out, in).",
        "s * B.T @ weight_gradient for A, s * weight_gradient @ A.T for B, with s = alpha / r.",
    ],
    solution=SOLUTION,
)

# ---------------------------------------------------------------- rank_for_energy


def _not_squared(singular_values, share):
    return _first_at([abs(s) for s in singular_values], share)


def _first_at(sizes, share):
    total, kept = sum(sizes), 0.0
    for count, size in enumerate(sizes, start=1):
        kept += size
        if kept >= share * total * (1 - 1e-12):
            return count
    return len(sizes)


def _index(singular_values, share):
    return lora.rank_for_energy(singular_values, share) - 1


def _one_more(singular_values, share):
    return lora.rank_for_energy(singular_values, share) + 1


def _against_largest(singular_values, share):
    return sum(s >= (1 - share) * max(singular_values) for s in singular_values)


def _share_of_count(singular_values, share):
    return math.ceil(share * len(singular_values))


def _smallest_first(singular_values, share):
    return _first_at([s**2 for s in reversed(singular_values)], share)


def _lost(singular_values, share):
    return lora.rank_for_energy(singular_values, 1 - share)


rank_for_energy = Exercise(
    name="lora_math.rank_for_energy",
    reference=lora.rank_for_energy,
    cases=[
        ([8.0, 4.0, 2.0, 1.0, 1.0, 0.5], 0.9),
        ([3.0, 2.5, 2.0, 1.8, 1.5, 1.2, 1.0, 0.8], 0.9),
        ([10.0, 3.0, 3.0, 2.0, 1.0, 1.0, 1.0], 0.8),
        ([1.0] * 10, 0.95),
        ([2.0, 1.0, 1.0, 1.0, 1.0], 0.5),  # exactly half is enough
    ],
    mistakes=[
        (_not_squared, "Energy is the sum of the squares: square the singular values first."),
        (_index, "That is the index, counted from 0, where it is reached; the rank is one more."),
        (_one_more, "One too many: the rank at which the share is reached, reaching it exactly included."),
        (_against_largest, "You count the values above a share of the largest; add up the squares instead."),
        (_share_of_count, "That is a share of the number of values; their sizes matter."),
        (_smallest_first, "You begin with the smallest; the best approximation keeps the largest."),
        (_lost, "That is the rank which keeps 1 - share."),
    ],
    hints=[
        "The energy is the sum of the squared singular values; they come largest first.",
        "Add squares from the largest on, until the sum is at least share times the total.",
        "torch.cumsum(torch.tensor(singular_values) ** 2, 0) gives all these sums; count those that are too "
        "small and add one.",
    ],
    solution=SOLUTION,
)
