"""The training of `data/tiny_base`: a plain loop with one thread, the same result every time."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from labsupport.models.chat import IGNORED
from labsupport.models.modes import evaluation_mode
from labsupport.pretraining import first_weights

SEED = 81
SHAPE = {
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "initializer_range": 0.04,
    "tie_word_embeddings": True,
}


@dataclass(frozen=True)
class Stage:
    """`rows` sequences of `length` tokens a step; the next so many `documents` of each part."""

    length: int
    rows: int
    documents: dict[str, int]


# First what is to be copied from the prompt. Short sequences before long ones: attention costs less.
STAGES = (
    Stage(128, 8, {"lookup": 8_000}),
    Stage(256, 4, {"prose": 8_000, "shop": 26_000, "lookup": 14_000}),
    Stage(512, 2, {"prose": 3_000, "shop": 8_000, "lookup": 4_000}),
)
MATRIX_RATE, OTHER_RATE = 0.006, 3e-3  # the peaks: Muon's for the layers' matrices, AdamW's for all else
WARMUP, DECAY = 50, 0.4  # steps up to the peak; share of all steps on the way down to 0
BETAS, LARGEST_NORM = (0.9, 0.95), 1.0  # AdamW's; gradients are cut to this norm
OPEN = 32  # sequences that are being filled at a time
EVERY = 100  # steps between two entries of the log


def new_model(tokenizer):
    """A LlamaForCausalLM of SHAPE in float32 with the weights of `first_weights`, of SEED."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **SHAPE,
    )
    model = LlamaForCausalLM(config)
    first_weights.put(model, SEED)
    return model


# ---------------------------------------------------------------- documents to batches


def packed(documents: list[list[int]], length: int) -> list[list[int]]:
    """Documents put together into sequences of at most `length` tokens, each document whole.

    Each goes where the least room is left that takes it (best fit); only one longer than a sequence is cut.
    """
    done, filling = [], []
    for document in documents:
        document = document[:length]
        fits = [sequence for sequence in filling if len(sequence) + len(document) <= length]
        if fits:
            max(fits, key=len).extend(document)
        else:
            filling.append(list(document))
        if len(filling) > OPEN:
            fullest = max(range(len(filling)), key=lambda i: len(filling[i]))
            done.append(filling.pop(fullest))
    return done + filling


def batches(documents: dict[str, list[list[int]]], pad: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Ids and labels of every step, int64, each (sequences, length); padding is ignored in the labels.

    documents: token ids by part. The parts of a stage are mixed; SEED decides the order.
    """
    result, used, rng = [], dict.fromkeys(documents, 0), random.Random(SEED)
    for stage in STAGES:
        chosen = []
        for part, count in stage.documents.items():
            chosen += documents[part][used[part] : used[part] + count]
            used[part] += count
        rng.shuffle(chosen)
        sequences = packed(chosen, stage.length)
        rng.shuffle(sequences)
        for start in range(0, len(sequences) - stage.rows + 1, stage.rows):
            result.append(tensors(sequences[start : start + stage.rows], stage.length, pad))
    return result


def tensors(sequences: list[list[int]], length: int, pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Sequences filled up to `length` at their end: ids with the pad token, labels with IGNORED."""
    ids = torch.tensor([row + [pad] * (length - len(row)) for row in sequences])
    labels = torch.tensor([row + [IGNORED] * (length - len(row)) for row in sequences])
    return ids, labels


# ---------------------------------------------------------------- the loop


def rate_at(step: int, steps: int) -> float:
    """The learning rate as a share of its peak: up in a line, level, then down in a line to 0."""
    down = max(1, round(DECAY * steps))
    return min(1.0, (step + 1) / WARMUP, (steps - step) / down)


def train(model, steps: list[tuple[torch.Tensor, torch.Tensor]]) -> Iterator[dict]:
    """Train the model in place; yields an entry of the log every EVERY steps and at the end.

    An entry: `step`, `loss` (nats a token, the mean since the last entry), `tokens` (labels seen), `seconds`
    (of the processor, not of the clock).
    """
    optimizers = optimizers_of(model)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_at(step, len(steps)))
        for optimizer in optimizers
    ]
    tokens, losses, begun = 0, [], time.process_time()
    model.train()
    for number, (ids, labels) in enumerate(steps, start=1):
        with torch.autocast("cpu", dtype=torch.bfloat16):  # the weights stay float32
            loss = loss_of(model, ids, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), LARGEST_NORM)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        losses.append(loss.item())
        tokens += int((labels[:, 1:] != IGNORED).sum())
        if number % EVERY == 0 or number == len(steps):
            mean, losses = sum(losses) / len(losses), []
            yield {
                "step": number,
                "loss": round(mean, 4),
                "tokens": tokens,
                "seconds": round(time.process_time() - begun, 1),
            }
    model.eval()


def optimizers_of(model) -> list[torch.optim.Optimizer]:
    """Muon for the matrices in the layers, AdamW for the embedding and the norms.

    Muon makes the update of a matrix orthogonal (K. Jordan and others, 2024), which took fewer tokens here.
    """
    matrices = [p for p in model.model.layers.parameters() if p.dim() == 2]
    inside = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in inside]
    return [
        torch.optim.Muon(matrices, lr=MATRIX_RATE, weight_decay=0.0),
        torch.optim.AdamW(others, lr=OTHER_RATE, betas=BETAS, weight_decay=0.0),
    ]


def loss_of(model, ids: torch.Tensor, labels: torch.Tensor, reduction: str = "mean") -> torch.Tensor:
    """Cross-entropy of each next token, in nats; padding stands at the end, so no mask is needed."""
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=IGNORED, reduction=reduction
    )


# ---------------------------------------------------------------- held-out documents


@torch.no_grad()
def held_out_loss(model, documents: list[list[int]], pad: int) -> float:
    """Mean loss in nats a token of documents that were not trained on, each alone, cut at 512 tokens."""
    total = count = 0
    with evaluation_mode(model):
        for document in documents:
            ids, labels = tensors([document[:512]], min(512, len(document)), pad)
            total += loss_of(model, ids, labels, "sum").item()
            count += ids.shape[1] - 1
    return total / count


@torch.no_grad()
def answers_right(model, tokenizer, documents: list[list[int]]) -> float:
    """Share of the answers in chats whose every token, its end included, is the model's first choice, given
    what stands before it. Between 0 and 1."""
    header = tokenizer.encode("<|im_start|>assistant\n", add_special_tokens=False)
    right = asked = 0
    with evaluation_mode(model):
        for ids in documents:
            first = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].argmax(-1).tolist()
            for i in range(len(header), len(ids)):
                if ids[i - len(header) : i] == header:
                    end = ids.index(tokenizer.eos_token_id, i)
                    right += first[i - 1 : end] == ids[i : end + 1]
                    asked += 1
    return right / asked
