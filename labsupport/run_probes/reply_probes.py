"""A base model with a run's adapter, asked: how well does a recorded reply follow from a prompt?

The measure is the regret of a token, in nats: how much likelier the model finds its first choice than the
token that stands there. Greedy decoding of the model that wrote the reply has no regret at any of its tokens.
Other models, prompts or number formats do, unless they come to the same. That takes one forward pass a batch,
and a tie that rounding decided otherwise costs next to nothing, where two replies written out part for good.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import torch

from labsupport.core import profiles
from labsupport.models import chat
from labsupport.models.modes import evaluation_mode
from labsupport.training import prefixes

TIE = 0.5  # nats: what rounding between number formats moves a choice by
MOST = 2**26  # logits that are held at a time
USUAL_SIZE = 2.5e8  # parameters of a model of which a processor runs all rows in two minutes
FEWEST = 6  # rows
LEAD = 3  # tokens before a reply that its text does not show: line breaks and special tokens
# How generate() goes on behind a row that was padded on the right (`masked_positions`).
PADDINGS = ("restarted", "counted")


@dataclass(frozen=True)
class Followed:
    """How a reply follows its prompt. log_probs, regrets: in nats, one a token of the reply. first: the token
    that the model would have begun with."""

    log_probs: list[float]
    regrets: list[float]
    first: int

    @property
    def surprise(self) -> float:
        """Minus the log-probability of the reply, in nats."""
        return -sum(self.log_probs)

    @property
    def explained(self) -> bool:
        """Whether every token was the model's first choice, or tied with it."""
        return max(self.regrets) <= TIE


@dataclass
class Bench:
    """A model to be asked. model: with its adapter, in evaluation mode. tokenizer: of the run."""

    model: object
    tokenizer: object
    dtype: str

    def without_adapter(self):
        """A block in which the base model alone answers."""
        disable = getattr(self.model, "disable_adapter", None)
        return disable() if disable else contextlib.nullcontext()


def usual_format() -> str:
    """The number format in which a run is looked at: float32 on a processor, whatever it was trained in, so
    that every machine finds the same; on a GPU the profile's."""
    profile = profiles.current()
    return "float32" if profile.use_cpu else profile.dtype


def affordable(bench: Bench, rows: int) -> int:
    """So many rows, or fewer of a larger model: on a processor a row takes time by its parameters."""
    size = sum(one.numel() for one in bench.model.parameters())
    if bench.model.device.type != "cpu":
        return rows
    return max(FEWEST, min(rows, int(rows * USUAL_SIZE / size)))


def opened(base: str, adapter, tokenizer, dtype: str) -> tuple[Bench, list[str], list[str]]:
    """The base model with the adapter in a number format; which adapter weights found no place in the model,
    and which places found no weights.

    base: a folder. adapter: the folder with adapter_config.json. dtype: as `base_model.load` takes it.
    Whatever PEFT raises for an adapter that does not fit passes through.
    """
    from peft import PeftModel, set_peft_model_state_dict
    from safetensors.torch import load_file

    from labsupport.models import base_model

    model, _ = base_model.load(base, dtype=dtype)
    model = PeftModel.from_pretrained(model, adapter)
    weights = load_file(adapter / "adapter_model.safetensors")
    result = set_peft_model_state_dict(model, weights)
    missing = [name for name in result.missing_keys if "lora_" in name]
    return Bench(model.eval(), tokenizer, dtype), list(result.unexpected_keys), missing


# ---------------------------------------------------------------- replies as they stand, token by token


@torch.no_grad()
def followed(bench: Bench, prompts: list[list[int]], replies: list[str], padded: str = "") -> list[Followed]:
    """How each reply follows its prompt. A text does not show spaces and special tokens in front of it: where
    the model would have begun with one, it is given it first, and the better reading counts.

    padded: "" or one of PADDINGS, for what generate() does to a row that was padded on the right.
    """
    ids = [bench.tokenizer(one, add_special_tokens=False)["input_ids"] for one in replies]
    ids = [one or [bench.tokenizer.eos_token_id] for one in ids]
    leads: list[list[int]] = [[] for _ in prompts]
    best: list[Followed | None] = [None] * len(prompts)
    left = list(range(len(prompts)))
    for _ in range(LEAD + 1):
        found = forced(bench, [prompts[i] for i in left], [leads[i] + ids[i] for i in left], padded)
        going_on = []
        for i, one in zip(left, found, strict=True):
            own = Followed(one.log_probs[len(leads[i]) :], one.regrets[len(leads[i]) :], one.first)
            if best[i] is None or own.surprise < best[i].surprise:
                best[i] = own
            begun = one.firsts[len(leads[i])]
            shown = bench.tokenizer.decode([begun], skip_special_tokens=True)
            if own.regrets[0] <= TIE:
                continue
            if not shown.strip():
                leads[i].append(begun)
                going_on.append(i)
            elif shown[0].isspace() and replies[i].startswith(shown.strip()):  # a space is part of the token
                spaced = shown[: -len(shown.lstrip())] + replies[i]
                ids[i] = bench.tokenizer(spaced, add_special_tokens=False)["input_ids"]
                going_on.append(i)
        left = going_on
        if not left:
            break
    return best


@dataclass(frozen=True)
class Forced(Followed):
    """`Followed` with the model's first choice at every token."""

    firsts: tuple[int, ...] = ()


@torch.no_grad()
def forced(bench: Bench, prompts: list[list[int]], answers: list[list[int]], padded="") -> list[Forced]:
    """The answers' tokens as the model would have chosen them, each given the ones before."""
    if not prompts:
        return []
    pad = bench.tokenizer.pad_token_id
    pad = [bench.tokenizer.eos_token_id if pad is None else pad] if padded else []
    sequences = [prompt + pad + answer for prompt, answer in zip(prompts, answers, strict=True)]
    longest = max(map(len, answers))
    size = max(1, min(8, MOST // (longest * bench.model.config.vocab_size)))
    found: list[Forced | None] = [None] * len(prompts)
    with evaluation_mode(bench.model):
        cache = prefixes.cache_of(bench.model, prefixes.shared(prompts) if len(prompts) > 1 else [])
        for chosen in chat.batches(sequences, size):
            keep = max(len(answers[i]) for i in chosen)
            batch = [
                (sequences[i], *masked_positions(len(sequences[i]), len(prompts[i]), padded)) for i in chosen
            ]
            logits = logits_at_ends(bench, batch, keep, cache)
            for i, own in zip(chosen, logits, strict=True):
                found[i] = compared(answers[i], own[len(own) - len(answers[i]) :])
    return found


def compared(answer: list[int], logits: torch.Tensor) -> Forced:
    """An answer held against float32 logits of shape (its tokens, vocabulary)."""
    log_probs = logits.log_softmax(-1)
    own = log_probs.gather(-1, torch.tensor(answer)[:, None])[:, 0]
    best, firsts = log_probs.max(-1)
    firsts = firsts.tolist()
    regrets = (best - own).nan_to_num(nan=99.0).tolist()  # weights that are NaN choose nothing
    return Forced(own.nan_to_num(nan=-99.0).tolist(), regrets, firsts[0], tuple(firsts))


def logits_at_ends(bench: Bench, batch: list[tuple], keep: int, cache) -> torch.Tensor:
    """float32 logits (rows, keep, vocabulary) that predict the last `keep` ids of each sequence.

    batch: ids, attention mask and positions of each. They begin with the ids of `cache` (or it is None) and
    line up at their ends.
    """
    known = cache.get_seq_length() if cache is not None else 0
    width = max(len(sequence) for sequence, _, _ in batch) - known
    ids, mask, positions = [], [], []
    for sequence, seen, place in batch:
        fill = width + known - len(sequence)
        ids.append([0] * fill + sequence[known:])
        mask.append([1] * known + [0] * fill + seen[known:])
        positions.append([0] * fill + place[known:])
    device = bench.model.device
    logits = bench.model(
        input_ids=torch.tensor(ids, device=device),
        attention_mask=torch.tensor(mask, device=device),
        position_ids=torch.tensor(positions, device=device),
        past_key_values=prefixes.repeated(cache, len(batch)),
        logits_to_keep=keep + 1,
    ).logits
    return logits[:, :-1].float().cpu()


def masked_positions(length: int, prompt: int, padded: str) -> tuple[list[int], list[int]]:
    """Attention mask and positions of a sequence; padded on the right, one padding token follows the prompt.

    How many there are makes no difference, since nothing looks at them. transformers from version 5 numbers a
    padding token 0 and the reply from 1 on ("restarted"); earlier ones numbered the reply on from the prompt
    ("counted").
    """
    if not padded:
        return [1] * length, list(range(length))
    seen = [1] * prompt + [0] + [1] * (length - prompt - 1)
    begin = 1 if padded == "restarted" else prompt
    return seen, [*range(prompt), 0, *range(begin, begin + length - prompt - 1)]


def padded_rows(lengths: list[int], size: int) -> list[bool]:
    """Which rows get padding in batches of so many, in their order."""
    batches = [lengths[start : start + size] for start in range(0, len(lengths), size)]
    return [length < max(batch) for batch in batches for length in batch]
