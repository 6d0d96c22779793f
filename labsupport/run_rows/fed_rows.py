"""The training rows as the trainer fed them: tokens, which the loss saw, and where the answer lies."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from labsupport.findings.check import View
from labsupport.run_rows.reply_ways import parted
from labsupport.training_data.record import Record

MOST = 2_000  # rows that are turned into tokens; of more, so many drawn
IGNORED = -100
ROLES = ("user", "assistant")


@dataclass
class FedRow:
    """A row as it was fed. where: "row 17". record: None for a row that is tokens already. view: its tokens,
    as far as max_length kept them. answer: first and last place (exclusive) of the last answer, its end token
    included, in the row before it was cut; None where the row does not say what is answer and what is not.
    """

    where: str
    record: Record | None
    view: View
    answer: tuple[int, int] | None

    @property
    def cut(self) -> int:
        """Tokens that max_length cut off."""
        return self.view.full_length - len(self.view.ids)

    @property
    def answer_left(self) -> int | None:
        """Tokens of the answer that were kept and trained; None where nothing says which these are."""
        if self.answer is None:
            return None
        start, end = self.answer
        return sum(self.view.trained[start : min(end, len(self.view.ids))])

    @property
    def prompt_trained(self) -> int:
        """Tokens before the answer that were trained."""
        return sum(self.view.trained[: self.answer[0]]) if self.answer else 0


def fed_rows(run) -> list[FedRow]:
    """Up to MOST of the run's training rows as fed; [] without rows or tokenizer. Kept in the run."""
    if run.train_rows is None or (run.form() and run.form().name != "tokens" and run.tokenizer() is None):
        return []
    if not hasattr(run, "_fed"):
        run._fed = tokens_given(run) if run.form().name == "tokens" else rendered(run)
        if len(run.train_rows) > MOST:
            run.notes.append(f"Tokens: {MOST:,} of the {len(run.train_rows):,} training rows were looked at.")
    return run._fed


def drawn(items: list) -> list:
    """At most MOST of them, the same ones each time, in their order."""
    if len(items) <= MOST:
        return items
    chosen = sorted(random.Random(0).sample(range(len(items)), MOST))
    return [items[place] for place in chosen]


def tokens_given(run) -> list[FedRow]:
    """Rows with input_ids, and perhaps labels or a mask, which TRL takes as they are."""
    tokenizer, longest = run.tokenizer(), run.recipe["max_length"]
    numbered = list(enumerate(run.train_rows, start=1))
    rows = []
    for number, raw in drawn(numbered):
        ids, trained = without_padding(raw)
        kept = slice(longest) if longest else slice(None)
        text = [tokenizer.decode([token]) for token in ids[kept]] if tokenizer is not None else []
        rows.append(
            FedRow(f"row {number}", None, View(ids[kept], trained[kept], len(ids), text), answer_of(trained))
        )
    return rows


def without_padding(raw: dict) -> tuple[list[int], list[bool]]:
    """(token ids, whether the loss sees each) of a row of tokens, as far as its attention_mask goes."""
    ids, trained = list(raw["input_ids"]), mask_of(raw, len(raw["input_ids"]))
    seen = raw.get("attention_mask") or []
    if len(seen) != len(ids):
        return ids, trained
    kept = [place for place, one in enumerate(seen) if one]
    return [ids[place] for place in kept], [trained[place] for place in kept]


def mask_of(raw: dict, length: int) -> list[bool]:
    """Which tokens of such a row the loss sees."""
    if "labels" in raw:
        return [label != IGNORED for label in raw["labels"]]
    masks = [raw[name] for name in ("completion_mask", "assistant_masks") if name in raw]
    if masks:
        return [bool(one) for one in masks[0]]
    return [True] * length


def answer_of(trained: list[bool]) -> tuple[int, int] | None:
    """Where the answer lies in a row of tokens: from the first trained one to the row's end, if anything
    before it is not trained."""
    if all(trained) or not any(trained):
        return None
    return trained.index(True), len(trained)


def rendered(run) -> list[FedRow]:
    """Rows of text, made into tokens as TRL does it."""
    from labsupport.token_checks import trainer_view

    tokenizer, recipe = run.tokenizer(), run.recipe
    records = [record for record in drawn(run.records()) if not record.faults]
    views = trainer_view.views(records, tokenizer, recipe)
    parted = [as_parted(record) for record in records]
    whole = recipe | {"max_length": None, "assistant_only_loss": False, "completion_only_loss": True}
    known = iter(trainer_view.views([one for one in parted if one is not None], tokenizer, whole))
    answers = [None if one is None else answer_in(next(known)) for one in parted]
    return [
        FedRow(record.where, record, view, answer)
        for record, view, answer in zip(records, views, answers, strict=True)
        if view is not None
    ]


def as_parted(record: Record) -> Record | None:
    """The row with its last answer as the completion; None where it has none, or a text marks none."""
    if record.text is not None:
        found = parted(record)
        turns = [{"role": role, "content": text} for role, text in zip(ROLES, found or (), strict=False)]
        strings = {"text": None, "messages": turns, "completion_from": 1, "chat": False}
        return replace(record, form="prompt_completion", **strings) if found and found[1] else None
    if len(record.messages) < 2:
        return None
    if record.messages[-1].get("role") != "assistant":
        return None
    return replace(record, completion_from=len(record.messages) - 1)


def answer_in(view: View | None) -> tuple[int, int] | None:
    """Where the completion lies in a row that was masked up to it."""
    if view is None or not any(view.trained):
        return None
    return view.trained.index(True), len(view.ids)
