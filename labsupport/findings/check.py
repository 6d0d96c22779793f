"""What a check gets to see. A check is a class; those of a subject stand in one file
`SUBJECT_checks.py`, which lists them in CHECKS and their rules in RULES."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labsupport.findings.finding import Hit
from labsupport.training_data.record import Record


@dataclass
class View:
    """A row as the trainer feeds it to the model. ids: token ids; trained: for each, whether the loss sees it
    (after truncation). full_length: tokens before truncation. text: the decoded tokens, a string each."""

    ids: list[int]
    trained: list[bool]
    full_length: int
    text: list[str]


@dataclass
class Run:
    """The fine-tune that is looked at. data, eval: files; form: of the data (training_data.record.FORMS).
    recipe: the settings (`recipe.Recipe`); None without --config. tokenizer: one of transformers, or None
    where none could be had. vocabulary: token -> id of the model's own, as it was before the settings changed
    it; {} where it is not known. model: what --model or the settings name, or None. gpu, rate: a card's name
    and money an hour, or None. Counted while the rows go by: rows, eval_rows, sampled (rows seen token by
    token), tokens (of those), trained (of those), longest (tokens of the longest of those)."""

    data: Path
    form: str
    eval: Path | None = None
    recipe: Any = None
    tokenizer: Any = None
    vocabulary: dict[str, int] = field(default_factory=dict)
    model: str | None = None
    gpu: str | None = None
    rate: float | None = None
    rows: int = 0
    eval_rows: int = 0
    sampled: int = 0
    tokens: int = 0
    trained: int = 0
    longest: int = 0
    notes: list[str] = field(default_factory=list)  # what was left out or only sampled, in a sentence each


class Check:
    """Looks at rows as they go by. Nothing here keeps rows: memory must not grow with them."""

    def __init__(self, run: Run):
        self.run = run

    def see_eval(self, record: Record) -> Iterable[Hit]:
        """A row of the evaluation file; all of them come before the first row of the data."""
        return ()

    def see(self, record: Record) -> Iterable[Hit]:
        """A row of the data."""
        return ()

    def see_tokens(self, record: Record, view: View) -> Iterable[Hit]:
        """A row of the data as the trainer feeds it: all rows, or a sample of very many."""
        return ()

    def end(self) -> Iterable[Hit]:
        """After the last row: what can only be said of the whole."""
        return ()
