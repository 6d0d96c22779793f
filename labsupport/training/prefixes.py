"""What all sequences begin with is run once: in scoring by a key/value cache, in training by one mask.

In causal attention a token's keys and values depend on the tokens before it alone. Those of a beginning that
rows share, such as the system prompt, are therefore the same in every row.
"""

from __future__ import annotations

import copy

import torch

from labsupport.models import chat


def shared(prompts: list[list[int]]) -> list[int]:
    """The ids that all prompts begin with, at least one id short of the shortest prompt."""
    first, limit = prompts[0], min(map(len, prompts)) - 1
    same = 0
    while same < limit and all(prompt[same] == first[same] for prompt in prompts):
        same += 1
    return first[:same]


# ---------------------------------------------------------------- in scoring


@torch.no_grad()
def cache_of(model, ids: list[int], known=None):
    """The key/value cache of a prefix for a batch of one; None for an empty prefix.

    known: the cache of an own beginning of `ids`, which is copied instead of run.
    """
    if not ids:
        return None
    rest = ids[known.get_seq_length() if known is not None else 0 :]
    # One logit only: the cache is what is wanted.
    return model(
        input_ids=torch.tensor([rest], device=model.device),
        past_key_values=repeated(known, 1),
        use_cache=True,
        logits_to_keep=1,
    ).past_key_values


def repeated(cache, rows: int):
    """A copy of a one-row cache for a batch of that many rows."""
    if cache is None:
        return None
    cache = copy.deepcopy(cache)
    cache.batch_repeat_interleave(rows)
    return cache


@torch.no_grad()
def answer_logits(model, tokenizer, sequences: list[list[int]], starts: list[int], cache) -> torch.Tensor:
    """float32 logits (rows, longest answer, vocabulary) that predict each sequence's ids from its start on.

    The sequences begin with the ids of `cache` (or it is None); answers line up at their ends.
    """
    known = cache.get_seq_length() if cache is not None else 0
    ids, mask = chat.pad_left(tokenizer, [s[known:] for s in sequences])
    mask = torch.cat([torch.ones(len(sequences), known, dtype=mask.dtype), mask], 1)
    keep = max(len(s) - start for s, start in zip(sequences, starts, strict=True))
    logits = model(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        position_ids=(mask.cumsum(1) - 1).clamp(min=0)[:, known:].to(model.device),
        past_key_values=repeated(cache, len(sequences)),
        logits_to_keep=keep + 1,
    ).logits
    return logits[:, :-1].float().cpu()


def logits_of_answers(model, tokenizer, examples: list[chat.Example], batch_size: int):
    """Yields (index, float32 logits of shape (answer and end of turn, vocabulary)) for every example."""
    if not examples:
        return
    cache = cache_of(model, shared([e.ids[: e.prompt_length] for e in examples]))
    for chosen in chat.batches([e.ids for e in examples], batch_size):
        batch = [examples[i] for i in chosen]
        starts = [e.prompt_length for e in batch]
        logits = answer_logits(model, tokenizer, [e.ids for e in batch], starts, cache)
        for i, example, own in zip(chosen, batch, logits, strict=True):
            yield i, own[-len(example.targets) :]


# ---------------------------------------------------------------- in training

PREFIX = -1  # in `row_of_token`: the token belongs to what the rows share


def share(trainer) -> None:
    """Let an SFTTrainer run what the rows of a batch have in common once. Changes it in place.

    Loss and gradients are those of padded rows, up to rounding; a batch has fewer tokens, and no padding.
    Not for flash attention, which takes no mask.
    """
    trainer.data_collator = collate
    trainer.model.register_forward_pre_hook(_mask, with_kwargs=True)


def collate(rows: list[dict]) -> dict[str, torch.Tensor]:
    """One sequence of a batch: what the rows share, then the rest of each row, all in tensors of (1, tokens).

    rows: dicts with `input_ids` and, unless every token is trained, `labels`. In the result position_ids
    count on from the shared part in every row; row_of_token says which row a token belongs to. What is shared
    ends before the first trained token.
    """
    # A label is compared with the output one place before it, which at a row's start is the end of the row
    # before. So the first own token of a row must not be a trained one (that of a whole row never is).
    rows = [{"labels": row["input_ids"], **row} for row in rows]
    start = len(shared([row["input_ids"][: first_trained(row["labels"])] for row in rows]))
    ids, labels = list(rows[0]["input_ids"][:start]), [chat.IGNORED] * start
    positions, own = list(range(start)), [PREFIX] * start
    for number, row in enumerate(rows):
        ids += row["input_ids"][start:]
        labels += [chat.IGNORED, *row["labels"][start + 1 :]]
        positions += range(start, len(row["input_ids"]))
        own += [number] * (len(row["input_ids"]) - start)
    columns = {"input_ids": ids, "labels": labels, "position_ids": positions, "row_of_token": own}
    return {name: torch.tensor([column]) for name, column in columns.items()}


def first_trained(labels: list[int]) -> int:
    """The index of the first label that is not IGNORED; the number of labels if there is none."""
    return next((i for i, label in enumerate(labels) if label != chat.IGNORED), len(labels))


def _mask(model, inputs: tuple, arguments: dict):
    """Turns row_of_token into an additive attention mask (1, 1, tokens, tokens): 0 where a token may look."""
    own = arguments.pop("row_of_token", None)
    if own is None:
        return None
    same_row = own[:, :, None] == own[:, None, :]
    sees = (same_row | (own == PREFIX)[:, None, :]).tril()
    mask = torch.zeros_like(sees, dtype=model.dtype).masked_fill(~sees, torch.finfo(model.dtype).min)
    arguments["attention_mask"] = mask[:, None]
    return inputs, arguments
