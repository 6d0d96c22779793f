"""Wrong answers to notebook 02's exercises."""

import math

import numpy as np
import torch


def three_for_its_root(fan_in, a):
    return 3 * math.sqrt(2 / (1 + a**2)) / math.sqrt(fan_in)


def xavier(fan_in, a):
    return math.sqrt(6 / (fan_in + fan_in))


def variance(fan_in, a):
    return 2 / ((1 + a**2) * fan_in)


def width(fan_in, a):
    return 2 * math.sqrt(6 / ((1 + a**2) * fan_in))


def scaled_once(weight_gradient, A, B, alpha):
    return alpha / len(A) * B.T @ weight_gradient, weight_gradient @ A.T


def named(weight_gradient, A, B, alpha):
    s = alpha / len(A)
    return {"A": s * B.T @ weight_gradient, "B": s * weight_gradient @ A.T}


def own_factor(weight_gradient, A, B, alpha):
    s = alpha / len(A)
    return s * A @ weight_gradient.T, s * weight_gradient.T @ B


def transposed(weight_gradient, A, B, alpha):
    s = alpha / len(A)
    return s * weight_gradient.T @ B, s * A @ weight_gradient.T


def swapped(weight_gradient, A, B, alpha):
    s = alpha / len(A)
    return s * weight_gradient @ A.T, s * B.T @ weight_gradient


def rank_for_alpha(weight_gradient, A, B, alpha):
    return len(A) / alpha * B.T @ weight_gradient, len(A) / alpha * weight_gradient @ A.T


def strictly_more(singular_values, share):
    energy = np.cumsum(np.square(singular_values))
    return int((energy <= share * energy[-1]).sum()) + 1


def not_normalised(singular_values, share):
    total = 0
    for rank, value in enumerate(singular_values, start=1):
        total += value**2
        if total >= share:
            return rank
    return len(singular_values) + 1


def from_zero(singular_values, share):
    energy = np.cumsum(np.square(singular_values))
    return int(np.argmax(energy >= share * energy[-1]))


def of_the_sum(singular_values, share):
    sums = np.cumsum(singular_values)
    return int(np.argmax(sums >= share * sums[-1])) + 1


def of_the_first(singular_values, share):
    return sum(value**2 >= share * singular_values[0] ** 2 for value in singular_values)


def the_share(singular_values, share):
    energy = np.cumsum(np.square(singular_values))
    return (energy / energy[-1])[np.argmax(energy >= share * energy[-1])]


class Layer(torch.nn.Module):
    """A right one, in which those below change one thing."""

    def __init__(self, base, rank, alpha):
        super().__init__()
        self.base, self.rank, self.alpha, self.merged = base.requires_grad_(False), rank, alpha, False
        b = 1 / math.sqrt(base.in_features)
        self.A = torch.nn.Parameter(torch.empty(rank, base.in_features).uniform_(-b, b))
        self.B = torch.nn.Parameter(torch.zeros(base.out_features, rank))

    def factor(self):
        return self.alpha / self.rank

    def forward(self, x):
        if self.merged:
            return self.base(x)
        return self.base(x) + self.factor() * (x @ self.A.T @ self.B.T)

    @torch.no_grad()
    def merge(self):
        if not self.merged:
            self.base.weight += self.factor() * self.B @ self.A
        self.merged = True

    @torch.no_grad()
    def unmerge(self):
        if self.merged:
            self.base.weight -= self.factor() * self.B @ self.A
        self.merged = False


class ByTheOutput(Layer):
    def factor(self):
        return self.alpha / self.base.out_features


class WholeDivision(Layer):
    def factor(self):
        return self.alpha // self.rank


class RankOverAlpha(Layer):
    def factor(self):
        return self.rank / self.alpha


class Swapped(Layer):
    def __init__(self, base, rank, alpha):
        super().__init__(base, rank, alpha)
        self.A, self.B = self.B, self.A


class NotTransposed(Layer):
    def forward(self, x):
        return self.base(x) + self.factor() * (x @ self.A @ self.B)


class SubtractsTwice(Layer):
    @torch.no_grad()
    def unmerge(self):
        self.base.weight -= 2 * self.factor() * self.B @ self.A
        self.merged = False


class ForgetsThatItIsMerged(Layer):
    def merge(self):
        super().merge()
        self.merged = False


class MergeReplaces(Layer):
    @torch.no_grad()
    def merge(self):
        if not self.merged:
            self.base.weight.copy_(self.factor() * self.B @ self.A)
        self.merged = True


class Buffers(Layer):
    def __init__(self, base, rank, alpha):
        super().__init__(base, rank, alpha)
        self.B.requires_grad_(False)


class DetachedA(Layer):
    def forward(self, x):
        if self.merged:
            return self.base(x)
        return self.base(x) + self.alpha / len(self.A) * x @ self.A.detach().T @ self.B.T


class ItsOwnName(Layer):
    def __init__(self, base, rank, alpha):
        super().__init__(base, rank, alpha)
        self.lora_A = self.A
        del self.A


def rows_of_u(update, rank):
    U, S, V = torch.linalg.svd(update, full_matrices=False)
    return (U[:rank] * S[:rank]) @ V[:rank]


def not_cut(update, rank):
    U, S, V = torch.linalg.svd(update, full_matrices=False)
    return U @ torch.diag(S) @ V


def smallest(update, rank):
    U, S, V = torch.linalg.svd(update, full_matrices=False)
    return (U[:, -rank:] * S[-rank:]) @ V[-rank:]


def zeroed_largest(update, rank):
    U, S, V = torch.linalg.svd(update, full_matrices=False)
    S[:rank] = 0
    return U @ torch.diag(S) @ V


def transposed_cut(update, rank):
    U, S, V = torch.linalg.svd(update, full_matrices=False)
    return ((U[:, :rank] * S[:rank]) @ V[:rank]).T


def factors_alone(update, rank):
    U, S, V = torch.linalg.svd(update, full_matrices=False)
    return U[:, :rank] @ V[:rank]


def in_place_cut(update, rank):
    U, S, V = torch.linalg.svd(update, full_matrices=False)
    update.copy_((U[:, :rank] * S[:rank]) @ V[:rank])
    return update


ANSWERS = {
    "lora_math.layer": [
        (DetachedA, "Only element ['gradients of A and B'] is wrong"),
        (ByTheOutput, None),
        (WholeDivision, "// cuts off"),
        (RankOverAlpha, None),
        (Swapped, None),
        (NotTransposed, "It raised RuntimeError"),
        (SubtractsTwice, None),
        (ForgetsThatItIsMerged, None),
        (MergeReplaces, None),
        (Buffers, None),
        (ItsOwnName, "It raised AttributeError"),
    ],
    "lora_math.cut": [
        (rows_of_u, "It raised RuntimeError"),
        (not_cut, "The update is still whole"),
        (smallest, "You keep the smallest"),
        (zeroed_largest, "That is what the approximation leaves out"),
        (transposed_cut, "the transpose"),
        (factors_alone, "The singular values are missing"),
        (in_place_cut, "changes argument update in place"),
    ],
    "lora_math.uniform_bound": [
        (three_for_its_root, "1.732 times"),
        (xavier, "The gain is missing"),
        (variance, "That is the variance"),
        (width, "It is 2 times"),
    ],
    "lora_math.factor_gradients": [
        (scaled_once, "Only element [1] is wrong: it is A.shape[0] / alpha times"),
        (named, "It returned a dict where a list was expected"),
        (own_factor, None),
        (transposed, "Both are transposed"),
        (swapped, "in the other order"),
        (rank_for_alpha, "The factor is upside down"),
    ],
    "lora_math.rank_for_energy": [
        (strictly_more, "Reaching the share exactly"),
        (not_normalised, "divide by the total energy first"),
        (from_zero, "counted from 0"),
        (of_the_sum, "Energy is the sum of the squares"),
        (of_the_first, None),
        (the_share, None),
    ],
}
