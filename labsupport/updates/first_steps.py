"""How far a step of LoRA moves a layer's output, and what decides how that grows with the rank.

While B is zero only B moves. With the gradient G (out, in) and the factor s, one step of SGD adds
-lr·s²·G AᵀA to the weight, one of Adam -lr·s·sign(G Aᵀ) A. A's rows are random. So for an input x each of the
r directions adds a part that has the same sign in all of them, as far as x points along the rows of G, and a
random part. The first grows like r, the second like sqrt(r): the cosine of x and G's rows decides.
"""

from __future__ import annotations

import math
import statistics

import torch

from labsupport.models import chat, lora
from labsupport.training import prefixes


def alignment(gradient: torch.Tensor, inputs: torch.Tensor) -> float:
    """Root mean square of the cosines of inputs (rows, in) and rows of a gradient (out, in), 0 to 1; long
    inputs count more, by their squared length. Rows of the gradient that are zero are left out."""
    lengths = gradient.norm(dim=1)
    directions = gradient[lengths > 0] / lengths[lengths > 0, None]
    shares = (directions @ inputs.T).square().mean(0)
    return math.sqrt(shares.sum().item() / inputs.square().sum().item())


def row_cosine(inputs: torch.Tensor) -> float:
    """Mean cosine of two different rows of inputs (rows, in)."""
    count, sum_of_rows = len(inputs), torch.nn.functional.normalize(inputs).sum(0)
    return (sum_of_rows.square().sum().item() - count) / (count * (count - 1))


def change(
    optimizer: str, gradient: torch.Tensor, inputs: torch.Tensor, rank: int, generator: torch.Generator
) -> float:
    """Root mean square over outputs and inputs (rows, in) of the first step's change, for lr = s = 1.

    gradient: (out, in). A (rank, in) is drawn as PEFT draws it. With a factor s it is s (Adam) or s² (SGD)
    times that.
    """
    bound = lora.uniform_bound(gradient.shape[1])
    A = bound * (2 * torch.rand(rank, gradient.shape[1], generator=generator) - 1)
    step = gradient @ A.T
    if optimizer == "adam":
        step = step.sign()
    return (inputs @ A.T @ step.T).square().mean().sqrt().item()


def exponent(ranks: list[int], changes: list[float]) -> float:
    """The p of the best fit of changes to a multiple of rank^p, by least squares of the logarithms."""
    return statistics.linear_regression([math.log(r) for r in ranks], [math.log(c) for c in changes]).slope


def expected_exponent(optimizer: str, cosine: float, ranks: list[int]) -> float:
    """What `exponent` should find for a fixed factor s: between 1/2 and 1.

    For rows of A that are Gaussian the mean square is, up to a factor, r + (2 / pi) c² r (r - 1) under Adam
    and (1 + 2c²) r + c² r (r - 1) under SGD, c being the `alignment`.
    """
    square = cosine**2
    alone, together = (1, 2 / math.pi * square) if optimizer == "adam" else (1 + 2 * square, square)
    return exponent(ranks, [math.sqrt(alone * r + together * r * (r - 1)) for r in ranks])


# ---------------------------------------------------------------- in a real model

MOST_ROWS, DRAWS = 128, 2  # of inputs of a layer, evenly spaced; of A at each rank


def layer_inputs(
    model, tokenizer, sequences: list[list[int]], labels: list[list[int]] | None = None
) -> dict[str, torch.Tensor]:
    """What each linear layer gets, by name: (tokens, in), at most about MOST_ROWS tokens. Those that all
    sequences begin with are left out, since they are the same in every batch. With labels, one a token, the
    weights' gradients of the mean loss are left in .grad."""
    found, layers = {}, lora.linear_layers(model)
    ids, mask = chat.pad_left(tokenizer, sequences)
    own = mask.bool() & (mask.cumsum(1) > len(prefixes.shared(sequences)))
    places = own.flatten().nonzero()[:, 0]
    places = places[:: max(1, len(places) // MOST_ROWS)]
    hooks = [layer.register_forward_hook(keeper(found, name, places)) for name, layer in layers.items()]
    try:
        with torch.set_grad_enabled(labels is not None):
            logits = model(input_ids=ids, attention_mask=mask).logits
            if labels is not None:
                chat.answer_loss(logits, chat.pad_labels_left(labels)).backward()
    finally:
        for hook in hooks:
            hook.remove()
    return found


def keeper(found: dict, name: str, places: torch.Tensor):
    """A forward hook that puts a layer's inputs at these places of the flattened batch into `found`."""

    def keep(layer, arguments, output):
        found[name] = arguments[0].detach().flatten(0, 1)[places]

    return keep


def by_layer(gradients: dict, kinds: dict[str, dict], ranks: list[int]) -> list[dict]:
    """For each layer (name -> gradient) and kind of inputs (kind -> name -> inputs): the `row_cosine` and the
    `alignment` of the inputs, and for "adam" and "sgd" the `exponent` of the first change for a fixed factor,
    from the geometric mean over draws of A."""
    found = []
    for name, gradient in gradients.items():
        entry = {"layer": name, "row_cosine": {}, "alignment": {}, "adam": {}, "sgd": {}}
        for kind, inputs in kinds.items():
            rows = inputs[name]
            entry["row_cosine"][kind] = round(row_cosine(rows), 3)
            entry["alignment"][kind] = round(alignment(gradient, rows), 3)
            for optimizer in ("adam", "sgd"):
                changes = [mean_change(optimizer, gradient, rows, rank) for rank in ranks]
                entry[optimizer][kind] = round(exponent(ranks, changes), 3)
        found.append(entry)
    return found


def mean_change(optimizer: str, gradient: torch.Tensor, inputs: torch.Tensor, rank: int) -> float:
    """The geometric mean of `change` over DRAWS draws of A."""
    generator = torch.Generator().manual_seed(rank)
    return statistics.geometric_mean(
        change(optimizer, gradient, inputs, rank, generator) for _draw in range(DRAWS)
    )
