"""What a fine-tune has done to text that it was not about: NLL, and divergence from the model of before."""

from __future__ import annotations

import contextlib

import torch

from labsupport.models.modes import evaluation_mode
from labsupport.tasks import general


def held_out(rows: list[dict]) -> tuple[list[dict], list[dict]]:
    """(passages to score, passages that a replay may train on): every fifth goes to the second, so that each
    kind of text has its share in both."""
    return [row for i, row in enumerate(rows) if i % 5], rows[::5]


@torch.no_grad()
def logits(model, tokenizer, rows: list[dict]) -> list[torch.Tensor]:
    """For each passage the logits (scored tokens, vocabulary) that predict its scored tokens, in the number
    format in which the model gives them: in bfloat16 about 98 kB a token of the bundled model."""
    found = []
    with evaluation_mode(model):
        for row in rows:
            ids, first = general.encode(row, tokenizer)
            output = model(input_ids=torch.tensor([ids], device=model.device)).logits[0]
            found.append(output[first - 1 : -1].cpu())
    return found


@torch.no_grad()
def compared(model, tokenizer, rows: list[dict], reference: list[torch.Tensor]) -> list[dict]:
    """For each passage `id`, `kind`, `tokens` (scored), and over these summed, in nats: `nll`, and `kl`, the
    divergence KL(reference ‖ model) = Σ p (log p − log q).

    reference: `logits` of the model of before on the same passages.
    """
    result = []
    for row, before in zip(rows, reference, strict=True):
        ids, first = general.encode(row, tokenizer)
        q = logits(model, tokenizer, [row])[0].float().log_softmax(-1)
        p = before.float().log_softmax(-1)
        targets = torch.tensor(ids[first:])
        result.append(
            {
                "id": row["id"],
                "kind": row["kind"],
                "tokens": len(targets),
                "nll": -float(q.gather(-1, targets[:, None]).sum()),
                "kl": float((p.exp() * (p - q)).sum()),
            }
        )
    return result


@contextlib.contextmanager
def mixed_precision():
    """Weights in float32, products in bfloat16, as a trainer with bf16=True computes on a CPU."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        yield
