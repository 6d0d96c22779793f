"""Wrong answers to notebook 10's exercises, as learners write them: (function, words of its diagnosis)."""

import math

import torch
from torch import nn
from torch.nn import functional as F
from transformers import DynamicCache

# ---------------------------------------------------------------- the layer


class Layer(nn.Module):
    """A right one, in which those below change one thing."""

    axis = 1

    def __init__(self, base, rank, alpha):
        super().__init__()
        self.base, self.s, self.merged = base.requires_grad_(False), alpha / rank, False
        b = 1 / math.sqrt(base.in_features)
        self.A = nn.Parameter(torch.empty(rank, base.in_features).uniform_(-b, b))
        self.B = nn.Parameter(torch.zeros(base.out_features, rank))
        self.m = nn.Parameter(base.weight.norm(dim=self.axis))

    def norm(self, changed):
        return changed.norm(dim=self.axis).detach()

    def weight(self):
        changed = self.base.weight + self.s * self.B @ self.A
        return (self.m / self.norm(changed))[:, None] * changed

    def forward(self, x):
        return self.base(x) if self.merged else F.linear(x, self.weight(), self.base.bias)

    @torch.no_grad()
    def merge(self):
        self.base.weight.copy_(self.weight())
        self.merged = True


class ByTheInput(Layer):
    axis = 0

    def weight(self):
        changed = self.base.weight + self.s * self.B @ self.A
        return self.m * changed / self.norm(changed)


class Undetached(Layer):
    def norm(self, changed):
        return changed.norm(dim=1)


class UndetachedByHalves(Layer):
    """Output by the formula with the factor on the outputs, the norm with its gradient."""

    def forward(self, x):
        if self.merged:
            return self.base(x)
        changed = self.base.weight + self.s * self.B @ self.A
        return F.linear(x, changed) * (self.m / changed.norm(dim=1)) + self.base.bias


class WithoutScale(Layer):
    def __init__(self, base, rank, alpha):
        super().__init__(base, rank, alpha)
        self.s = 1


class NormOfTheOld(Layer):
    def norm(self, changed):
        return self.base.weight.norm(dim=1)


class NormOfAll(Layer):
    def __init__(self, base, rank, alpha):
        super().__init__(base, rank, alpha)
        self.m = nn.Parameter(base.weight.norm())

    def weight(self):
        changed = self.base.weight + self.s * self.B @ self.A
        return self.m * changed / changed.norm().detach()


class NormOfAllBesideRows(Layer):
    """m has an entry for each row, but all are divided by the norm of the whole."""

    def norm(self, changed):
        return changed.norm().detach()


class NotNormalised(Layer):
    def norm(self, changed):
        return torch.ones(len(changed))


class MergesAsLoRA(Layer):
    @torch.no_grad()
    def merge(self):
        self.base.weight += self.s * self.B @ self.A
        self.merged = True


class BiasToo(Layer):
    def forward(self, x):
        if self.merged:
            return self.base(x)
        changed = self.base.weight + self.s * self.B @ self.A
        return (F.linear(x, changed) + self.base.bias) * (self.m / self.norm(changed))


class MovesForEver(Layer):
    """Does not remember that it is merged."""

    @torch.no_grad()
    def merge(self):
        self.base.weight.copy_(self.weight())


class NoBias(Layer):
    def forward(self, x):
        return self.base(x) if self.merged else F.linear(x, self.weight())


class DetachedAll(Layer):
    def weight(self):
        changed = self.base.weight + self.s * (self.B @ self.A).detach()
        return (self.m / self.norm(changed))[:, None] * changed


class RandomB(Layer):
    def __init__(self, base, rank, alpha):
        super().__init__(base, rank, alpha)
        self.B = nn.Parameter(torch.randn(base.out_features, rank))


class TransposedNorm(Layer):
    def weight(self):
        changed = self.base.weight + self.s * self.B @ self.A
        return self.m / self.norm(changed) * changed


# ---------------------------------------------------------------- lengths and directions


def columns(before, after):
    old, new = before.double(), after.double()
    return (new.norm(dim=0) - old.norm(dim=0)).abs().mean(), (
        1 - torch.cosine_similarity(old, new, dim=0)
    ).mean()


def signed(before, after):
    old, new = before.double(), after.double()
    return (new.norm(dim=1) - old.norm(dim=1)).mean(), (1 - torch.cosine_similarity(old, new)).mean()


def similar(before, after):
    old, new = before.double(), after.double()
    return (new.norm(dim=1) - old.norm(dim=1)).abs().mean(), torch.cosine_similarity(old, new).mean()


def single(before, after):
    u, v = F.normalize(before), F.normalize(after)
    return (after.norm(dim=1) - before.norm(dim=1)).abs().mean().item(), (1 - (u * v).sum(1)).mean().item()


def one_less(before, after):
    return (after.norm(dim=1) - before.norm(dim=1)).abs().mean()


def per_row(before, after):
    old, new = before.double(), after.double()
    return (new.norm(dim=1) - old.norm(dim=1)).abs(), 1 - torch.cosine_similarity(old, new)


def of_the_change(before, after):
    change = (after - before).double()
    old, new = before.double(), after.double()
    return change.norm(dim=1).mean(), (1 - torch.cosine_similarity(old, new)).mean()


# ---------------------------------------------------------------- the bottleneck


class Adapter(nn.Module):
    """A right one, in which those below change one thing."""

    bias = True

    def __init__(self, hidden, width):
        super().__init__()
        self.down = nn.Linear(hidden, width, bias=self.bias)
        self.up = nn.Linear(width, hidden, bias=self.bias)
        for parameter in self.up.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x):
        return x + self.up(F.gelu(self.down(x)))


class NoResidual(Adapter):
    def forward(self, x):
        return self.up(F.gelu(self.down(x)))


class Straight(Adapter):
    def forward(self, x):
        return self.up(self.down(x)) + x


class LateGelu(Adapter):
    def forward(self, x):
        return x + F.gelu(self.up(self.down(x)))


class Silu(Adapter):
    def forward(self, x):
        return x + self.up(F.silu(self.down(x)))


class Random(Adapter):
    def __init__(self, hidden, width):
        super().__init__(hidden, width)
        self.up = nn.Linear(width, hidden)


class WeightOnly(Adapter):
    def __init__(self, hidden, width):
        super().__init__(hidden, width)
        self.up = nn.Linear(width, hidden)
        nn.init.zeros_(self.up.weight)


class AllZero(Adapter):
    def __init__(self, hidden, width):
        super().__init__(hidden, width)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)


class Biasless(Adapter):
    bias = False


class Exchanged(Adapter):
    def __init__(self, hidden, width):
        super().__init__(width, hidden)


class OtherNames(nn.Module):
    def __init__(self, hidden, width):
        super().__init__()
        self.first, self.second = nn.Linear(hidden, width), nn.Linear(width, hidden)

    def forward(self, x):
        return x + self.second(F.gelu(self.first(x)))


# ---------------------------------------------------------------- prompts


def prompted(embeddings, mask, labels):
    return {"inputs_embeds": embeddings, "attention_mask": mask, "labels": labels}


def vectors_alone(prompt, embeddings, mask, labels):
    return prompted(torch.cat([prompt.repeat(len(mask), 1, 1), embeddings], 1), mask, labels)


def zero_labels(prompt, embeddings, mask, labels):
    n, k = len(mask), len(prompt)
    return prompted(
        torch.cat([prompt.repeat(n, 1, 1), embeddings], 1),
        torch.cat([torch.ones(n, k), mask], 1),
        torch.cat([torch.zeros(n, k, dtype=torch.long), labels], 1),
    )


def at_the_end(prompt, embeddings, mask, labels):
    n, k = len(mask), len(prompt)
    return prompted(
        torch.cat([embeddings, prompt.repeat(n, 1, 1)], 1),
        torch.cat([mask, torch.ones(n, k)], 1),
        torch.cat([labels, torch.full((n, k), -100)], 1),
    )


def wide_batch(prompt, embeddings, mask, labels):
    """Learned vectors as if they were rows of the batch."""
    return prompted(torch.cat([prompt, embeddings], 1), mask, labels)


def no_batch(prompt, embeddings, mask, labels):
    k = len(prompt)
    return prompted(
        torch.cat([prompt.unsqueeze(0), embeddings], 1),
        F.pad(mask, (k, 0), value=1),
        F.pad(labels, (k, 0), value=-100),
    )


def cut_off(prompt, embeddings, mask, labels):
    n, k = len(mask), len(prompt)
    return prompted(
        torch.cat([prompt.detach().expand(n, -1, -1), embeddings], 1),
        F.pad(mask, (k, 0), value=1),
        F.pad(labels, (k, 0), value=-100),
    )


def other_names(prompt, embeddings, mask, labels):
    right = no_batch(prompt, embeddings[:1], mask, labels)
    return {"embeddings": right["inputs_embeds"], "mask": right["attention_mask"], "labels": right["labels"]}


def cached(pairs, mask):
    return {"past_key_values": DynamicCache(list(pairs)), "attention_mask": mask}


def swapped(prefix, mask):
    n = len(mask)
    pairs = [(v.repeat(n, 1, 1, 1), k.repeat(n, 1, 1, 1)) for k, v in prefix]
    return cached(pairs, F.pad(mask, (prefix.shape[3], 0), value=1))


def short_mask(prefix, mask):
    return cached([(k.repeat(len(mask), 1, 1, 1), v.repeat(len(mask), 1, 1, 1)) for k, v in prefix], mask)


def one_text(prefix, mask):
    return cached(
        [(k.unsqueeze(0), v.unsqueeze(0)) for k, v in prefix], F.pad(mask, (prefix.shape[3], 0), value=1)
    )


def pairs_alone(prefix, mask):
    pairs = [(k.repeat(len(mask), 1, 1, 1), v.repeat(len(mask), 1, 1, 1)) for k, v in prefix]
    return {"past_key_values": pairs, "attention_mask": F.pad(mask, (prefix.shape[3], 0), value=1)}


def data_alone(prefix, mask):
    pairs = [(k.data.repeat(len(mask), 1, 1, 1), v.data.repeat(len(mask), 1, 1, 1)) for k, v in prefix]
    return cached(pairs, F.pad(mask, (prefix.shape[3], 0), value=1))


def by_heads(prefix, mask):
    """Counts the heads where the tokens are."""
    pairs = [(k.repeat(len(mask), 1, 1, 1), v.repeat(len(mask), 1, 1, 1)) for k, v in prefix]
    return cached(pairs, F.pad(mask, (prefix.shape[2], 0), value=1))


ANSWERS = {
    "dora_and_friends.layer": [
        (ByTheInput, "along the wrong axis"),
        (Undetached, "takes part in the gradient"),
        (UndetachedByHalves, "takes part in the gradient"),
        (WithoutScale, "The factor alpha / r is missing"),
        (NormOfTheOld, "You divide by the norm of W alone"),
        (NormOfAll, "one norm of the whole matrix"),
        (NormOfAllBesideRows, "one norm of the whole matrix"),
        (NotNormalised, "The direction is not normalised"),
        (MergesAsLoRA, "which is LoRA's"),
        (BiasToo, "scale the bias, too"),
        (MovesForEver, "Once merged, forward applies"),
        (NoBias, "The base's bias is missing"),
        (DetachedAll, "No gradient reaches A and B"),
        (RandomB, "B starts at random"),
        (TransposedNorm, "It raised RuntimeError"),
    ],
    "dora_and_friends.magnitude_and_direction": [
        (columns, "Those are the columns"),
        (signed, "Rows that grow and rows that shrink cancel"),
        (similar, "That is the cosine itself"),
        (single, "mostly rounding in float32"),
        (one_less, "It raised TypeError"),
        (per_row, "Those are numbers for each row"),
        (of_the_change, "That is the length of the change"),
    ],
    "dora_and_friends.bottleneck": [
        (NoResidual, "The residual is missing"),
        (Straight, "Nothing is between down and up"),
        (LateGelu, "The GELU comes after up"),
        (Silu, None),
        (Random, "up starts at random"),
        (WeightOnly, "but its bias does not"),
        (AllZero, "down starts at zero, too"),
        (Biasless, "The biases are missing"),
        (Exchanged, "It raised RuntimeError"),
        (OtherNames, "It raised AttributeError"),
    ],
    "dora_and_friends.with_prompt": [
        (vectors_alone, "The mask and the labels are as long as the text alone"),
        (zero_labels, "The prompt's labels are 0"),
        (at_the_end, "The prompt comes after the text"),
        (wide_batch, "It raised RuntimeError"),
        (no_batch, "prompt[None] is one row"),
        (cut_off, "has no gradient"),
        (other_names, "other keys"),
    ],
    "dora_and_friends.with_prefix": [
        (swapped, "Keys and values are exchanged"),
        (short_mask, "The mask is as long as the text alone"),
        (one_text, "The cache is for one text"),
        (pairs_alone, "past_key_values is a list of pairs"),
        (data_alone, "no gradient"),
        (by_heads, None),
    ],
}
