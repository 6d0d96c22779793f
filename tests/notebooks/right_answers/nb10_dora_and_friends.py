"""Right answers to notebook 10's exercises, each written in another way than the reference."""

import torch
from torch import nn
from transformers import DynamicCache


class Layer(nn.Module):
    """Computes with the whole weight, and has m as a column."""

    def __init__(self, base, rank, alpha):
        super().__init__()
        for parameter in base.parameters():
            parameter.requires_grad = False
        self.linear, self.s, self.done = base, alpha / rank, False
        b = base.in_features**-0.5
        self.A = nn.Parameter(2 * b * (torch.rand(rank, base.in_features) - 0.5))
        self.B = nn.Parameter(self.A.new_zeros(base.out_features, rank))
        self.m = nn.Parameter(base.weight.square().sum(1, keepdim=True).sqrt())

    def weight(self):
        changed = torch.addmm(self.linear.weight, self.B, self.A, alpha=self.s)
        with torch.no_grad():
            length = changed.square().sum(1, keepdim=True).sqrt()
        return self.m * (changed / length)

    def forward(self, x):
        if self.done:
            return self.linear(x)
        return x @ self.weight().T + self.linear.bias

    def merge(self):
        self.linear.weight.data, self.done = self.weight().data, True


def magnitude_and_direction(before, after):
    before, after = before.double(), after.double()
    lengths, directions = [], []
    for old, new in zip(before, after, strict=True):
        lengths.append(abs(new.norm() - old.norm()).item())
        directions.append(1 - (old @ new / old.norm() / new.norm()).item())
    return sum(lengths) / len(lengths), sum(directions) / len(directions)


class Adapter(nn.Module):
    def __init__(self, hidden, width):
        super().__init__()
        self.down, self.up = nn.Linear(hidden, width), nn.Linear(width, hidden)
        for parameter in self.up.parameters():
            parameter.data.zero_()
        self.between = nn.Sequential(self.down, nn.GELU(), self.up)

    def forward(self, x):
        return self.between(x) + x


def with_prompt(prompt, embeddings, mask, labels):
    vectors, ones, nothing = [], [], []
    for row, m, y in zip(embeddings, mask, labels, strict=True):
        vectors.append(torch.vstack([prompt, row]))
        ones.append([1] * len(prompt) + m.tolist())
        nothing.append([-100] * len(prompt) + y.tolist())
    return {
        "inputs_embeds": torch.stack(vectors),
        "attention_mask": torch.tensor(ones),
        "labels": torch.tensor(nothing),
    }


def with_prefix(prefix, mask):
    cache = DynamicCache()
    for number, (keys, values) in enumerate(prefix):
        cache.update(torch.stack([keys] * len(mask)), torch.stack([values] * len(mask)), number)
    longer = nn.functional.pad(mask, (prefix.shape[-2], 0), value=1)
    return {"attention_mask": longer, "past_key_values": cache}


ANSWERS = {
    "dora_and_friends.layer": Layer,
    "dora_and_friends.magnitude_and_direction": magnitude_and_direction,
    "dora_and_friends.bottleneck": Adapter,
    "dora_and_friends.with_prompt": with_prompt,
    "dora_and_friends.with_prefix": with_prefix,
}
