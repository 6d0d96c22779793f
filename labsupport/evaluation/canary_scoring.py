"""The forgetting canary: 120 easy questions that the base model answers before any fine-tune.

Nothing is generated. Each of four choices is put after "Question: ...\\nAnswer:" and the model's negative
log-likelihood (NLL, in nats) of the choice is summed over its tokens; the lowest sum is its answer. The
sum is the rule because exp(-sum) is the probability that the model writes this choice, and because the
choices of a question are alike in length. NLL per token and per byte are returned to see what a division
would change. The rule and the prompt were fixed before anything was measured."""

from __future__ import annotations

import torch

from labsupport.core.files import LabError
from labsupport.evaluation import intervals
from labsupport.models import chat
from labsupport.models.modes import evaluation_mode
from labsupport.tasks import canary as questions


def prompt(question: str) -> str:
    """What stands before a choice; the choice follows after one space."""
    return f"Question: {question}\nAnswer:"


def score(model, tokenizer, rows: list[dict] | None = None, batch_size: int = 32) -> list[dict]:
    """How likely the model finds each choice of each question (all of them by default).

    Returns one dict a question: `id`, `subject`; `nll`, `nll_per_token`, `nll_per_byte` (four numbers each,
    nats; bytes of the UTF-8 text with its leading space); `chosen` (place of the lowest `nll`), `right`
    (bool) and `margin` (nats: lowest wrong NLL minus the right one's; positive if right).
    """
    rows = questions.load() if rows is None else rows
    pairs = [(prompt(row["question"]), f" {choice}") for row in rows for choice in row["choices"]]
    sums, tokens = continuation_nll(model, tokenizer, pairs, batch_size)
    results = []
    for k, row in enumerate(rows):
        own = slice(questions.CHOICES * k, questions.CHOICES * (k + 1))
        nll, right = sums[own], row["answer"]
        sizes = [len(choice.encode()) for _, choice in pairs[own]]
        chosen = min(range(questions.CHOICES), key=nll.__getitem__)
        results.append(
            {
                "id": row["id"],
                "subject": row["subject"],
                "nll": nll,
                "nll_per_token": [n / t for n, t in zip(nll, tokens[own], strict=True)],
                "nll_per_byte": [n / b for n, b in zip(nll, sizes, strict=True)],
                "chosen": chosen,
                "right": chosen == right,
                "margin": min(n for i, n in enumerate(nll) if i != right) - nll[right],
            }
        )
    return results


@torch.no_grad()
def continuation_nll(
    model, tokenizer, pairs: list[tuple[str, str]], batch_size: int
) -> tuple[list[float], list[int]]:
    """NLL (nats, summed) and number of tokens of each continuation after its prompt.

    Raises ValueError if a prompt's tokens are not a prefix of the whole text's: then the continuation has
    no tokens of its own.
    """
    texts = [tokenizer(start + end)["input_ids"] for start, end in pairs]
    counts = []
    for ids, (start, _) in zip(texts, pairs, strict=True):
        before = tokenizer(start)["input_ids"]
        if ids[: len(before)] != before or len(ids) == len(before):
            raise ValueError(f"the tokens of {start!r} are not a prefix of the whole text's")
        counts.append(len(ids) - len(before))
    sums = [0.0] * len(pairs)
    for chosen in chat.batches(texts, batch_size):
        ids, mask = chat.pad_left(tokenizer, [texts[i] for i in chosen])
        keep = max(counts[i] for i in chosen)
        with evaluation_mode(model):
            logits = model(
                input_ids=ids.to(model.device), attention_mask=mask.to(model.device), logits_to_keep=keep + 1
            ).logits
        log_probs = logits[:, :-1].float().log_softmax(-1).cpu()
        picked = log_probs.gather(-1, ids[:, -keep:, None])[..., 0]
        for k, i in enumerate(chosen):
            sums[i] = -float(picked[k, -counts[i] :].sum())
    return sums, counts


def shares(results: list[dict]) -> dict[str, tuple[float, float, float]]:
    """Share of right answers with its 95 % interval: (share, low, high) for "all" and each subject."""
    groups: dict[str, list[bool]] = {"all": [result["right"] for result in results]}
    for result in results:
        groups.setdefault(result["subject"], []).append(result["right"])
    return {name: intervals.wilson(sum(right), len(right)) for name, right in groups.items()}


def choose(nll: list[float], choices: list[str], rule: str = "acc") -> int:
    """The place of the choice that a model finds likeliest; of equal ones the first.

    nll: of each choice, in nats, summed over its tokens. rule: what is compared, by the names that
    lm-evaluation-harness (0.4.13) gives the shares of right answers: "acc" the sum, "acc_norm" the sum over
    the number of characters, "acc_bytes" over that of UTF-8 bytes, of the choice without the blank before it.
    Raises LabError for another rule.
    """
    sizes = {
        "acc": [1] * len(choices),
        "acc_norm": [len(choice) for choice in choices],
        "acc_bytes": [len(choice.encode()) for choice in choices],
    }
    if rule not in sizes:
        raise LabError(f"There is no rule {rule!r}: choose one of {', '.join(sizes)}.")
    scores = [value / size for value, size in zip(nll, sizes[rule], strict=True)]
    return scores.index(min(scores))
