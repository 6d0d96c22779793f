"""How far a merged model is from the one that was trained: on right answers, and in what each writes."""

from __future__ import annotations

import torch
from torch import Tensor

from labsupport.format_runs import prompt_formats
from labsupport.models import chat
from labsupport.models.modes import evaluation_mode
from labsupport.training import prefixes

LONGEST = 48  # tokens written; the longest right answer has 45


def examples(tokenizer, rows: list[dict]) -> list[chat.Example]:
    """Tickets with their right answers, in the model's template; nothing follows the end token."""
    return [prompt_formats.encode(tokenizer, "template", row) for row in rows]


@torch.no_grad()
def logits(model, tokenizer, rows: list[chat.Example], batch_size: int = 8) -> list[Tensor]:
    """For each example the float32 logits (answer and end token, vocabulary) that predict its answer.

    About 8 MB an example of the bundled model.
    """
    found: list[Tensor] = [torch.empty(0)] * len(rows)
    with evaluation_mode(model):
        for i, own in prefixes.logits_of_answers(model, tokenizer, rows, batch_size):
            found[i] = own.clone()  # a batch's answers share one tensor, which would be kept whole
    return found


@torch.no_grad()
def compared(
    model, tokenizer, rows: list[chat.Example], trained: list[Tensor], batch_size: int = 8
) -> dict[str, list]:
    """A model on right answers beside the trained one, a column each, in the order of `rows`.

    `nll`: of the answer and its end token, nats; `exact`: 1 if each of these was the first choice; `kl`:
    KL(trained ‖ model) summed over these tokens, nats; `same`: at how many of them both have the same first
    choice; `tokens`: how many there are. trained: `logits` of the trained model on the same rows.
    """
    found: list[dict] = [{} for _ in rows]
    with evaluation_mode(model):
        for i, own in prefixes.logits_of_answers(model, tokenizer, rows, batch_size):
            found[i] = distance(torch.tensor(rows[i].targets), own, trained[i])
    return {column: [row[column] for row in found] for column in found[0]}


def distance(targets: Tensor, own: Tensor, trained: Tensor) -> dict:
    """`compared`'s numbers for one example: target ids (tokens,), two logits (tokens, vocabulary).

    In float64: of two models that differ by rounding alone, the divergence is smaller than float32's errors.
    """
    q, p = own.double().log_softmax(-1), trained.double().log_softmax(-1)
    choice = own.argmax(-1)
    return {
        "nll": round(-float(q.gather(-1, targets[:, None]).sum()), 4),
        "exact": int((choice == targets).all()),
        "kl": float(f"{float((p.exp() * (p - q)).sum()):.4g}"),
        "same": int((choice == trained.argmax(-1)).sum()),
        "tokens": len(targets),
    }


@torch.no_grad()
def written(model, tokenizer, rows: list[dict], longest: int = LONGEST) -> list[list[int]]:
    """The token ids that the model writes greedily to each ticket, up to and with its end token, at most
    `longest`."""
    prompts = [chat.prompt_ids(tokenizer, row["text"]) for row in rows]
    ids, mask = chat.pad_left(tokenizer, prompts)
    end = tokenizer.eos_token_id
    with evaluation_mode(model):
        output = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=longest,
            do_sample=False,
            use_cache=True,
            eos_token_id=end,
            pad_token_id=tokenizer.pad_token_id,
        )[:, ids.shape[1] :].tolist()
    return [reply[: reply.index(end) + 1] if end in reply else reply for reply in output]


def alike(ours: list[list[int]], theirs: list[list[int]]) -> list[int]:
    """For each reply 1 if both models wrote the same ids, else 0."""
    return [int(one == other) for one, other in zip(ours, theirs, strict=True)]
