"""The same model asked under other conditions: padding on either side, batches, sampling.

Plain on purpose: every prompt is run in full, as most evaluation scripts do it.
"""

from __future__ import annotations

import torch

from labsupport.evaluation import scoring
from labsupport.models import chat
from labsupport.models.modes import evaluation_mode


def padded(tokenizer, sequences: list[list[int]], side: str) -> tuple[torch.Tensor, torch.Tensor]:
    """int64 ids and mask (rows, longest) with the padding on the "left" or on the "right"."""
    batch = tokenizer.pad({"input_ids": sequences}, padding_side=side, return_tensors="pt")
    return batch["input_ids"], batch["attention_mask"]


def in_order(rows: list, size: int) -> list[list]:
    """Batches of at most `size` rows as they come."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


@torch.no_grad()
def score(model, tokenizer, rows: list[dict], batch_size: int, side: str) -> list[dict]:
    """`scoring.score` in padded batches, in the order of the rows: `nll` by field (nats) and `exact`."""
    results = []
    with evaluation_mode(model):
        for batch in in_order(rows, batch_size):
            examples = [chat.encode_example(tokenizer, row) for row in batch]
            ids, mask = padded(tokenizer, [example.ids for example in examples], side)
            logits = model(input_ids=ids, attention_mask=mask, position_ids=positions(mask)).logits.float()
            for example, own, real in zip(examples, logits, mask.bool(), strict=True):
                answer = own[real][example.prompt_length - 1 : -1]
                results.append(scoring.summarise(example, *scoring.compared(example.targets, answer)))
    return results


def positions(mask: torch.Tensor) -> torch.Tensor:
    """Position of each token: 0 for the first that is no padding, as `generate` counts."""
    return (mask.cumsum(1) - 1).clamp(min=0)


@torch.no_grad()
def written(
    model, tokenizer, texts: list[str], batch_size: int, side: str = "left", longest: int = 64, **sampling
) -> list[str]:
    """Replies to tickets by `generate`, in padded batches in the order of the texts; greedy by default.

    sampling: arguments of `generate`, such as do_sample=True, temperature=0.7; torch's generator decides.
    """
    replies = []
    sampling = {"do_sample": False} | sampling
    with evaluation_mode(model):
        for batch in in_order([chat.prompt_ids(tokenizer, text) for text in texts], batch_size):
            ids, mask = padded(tokenizer, batch, side)
            output = model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=longest,
                pad_token_id=tokenizer.pad_token_id,
                **sampling,
            )
            texts_written = tokenizer.batch_decode(output[:, ids.shape[1] :], skip_special_tokens=True)
            replies += [text.strip() for text in texts_written]
    return replies
