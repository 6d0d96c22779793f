"""What the trained model makes of the answers: of rows that it was trained on, and of the evaluation's."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from labsupport.run_probes import reply_probes
from labsupport.run_rows import reply_ways
from labsupport.run_rows.fed_rows import FedRow, fed_rows


@dataclass(frozen=True)
class Asked:
    """A question with its right answer. where: "row 17". prompt, answer: token ids. end: the answer's last id
    ends the turn."""

    where: str
    prompt: list[int]
    answer: list[int]
    end: bool


@dataclass(frozen=True)
class Known:
    """How a model knows one answer. nats: minus the log-probability of each token, the end token left out.
    regrets: how much likelier it finds its first choice than each of these, in nats. end, end_regret: the
    same of the end token behind the answer; None where the row has none."""

    where: str
    nats: list[float]
    regrets: list[float]
    end: float | None
    end_regret: float | None

    @property
    def mean(self) -> float:
        """Nats a token."""
        return sum(self.nats) / len(self.nats)

    @property
    def worst(self) -> float:
        """The largest regret: 0 where the model would have written the answer itself."""
        return max(self.regrets)


def trained_rows(run, asking) -> list[Asked]:
    """The training rows as they were fed, with at least a token of an answer left."""
    rows = [asked_of_fed(row, asking) for row in fed_rows(run)]
    return [row for row in rows if row is not None]


def asked_of_fed(row: FedRow, asking) -> Asked | None:
    """A row that was fed, parted before its answer; None where that is gone or not told."""
    ids = row.view.ids
    if row.answer is not None:
        begin = row.answer[0]
    else:
        found = row.record is not None and reply_ways.parted(row.record)
        if not found:
            return None
        begin = shared_length(asking.tokenizer(found[0])["input_ids"], ids)
    return asked_of(row.where, ids[:begin], ids[begin:], asking.tokenizer) if begin else None


def evaluation_rows(run, asking) -> list[Asked]:
    """The evaluation's rows, asked as in training; [] where that cannot be told."""
    rows, end = [], end_token(run, asking)
    for record in run.records("eval"):
        prompt, answer = asking.prompt(record), reply_ways.expected(record)
        if not prompt or not answer or record.faults:
            continue
        ids = asking.tokenizer(answer, add_special_tokens=False)["input_ids"]
        row = asked_of(record.where, prompt, [*ids, *([] if end is None else [end])], asking.tokenizer)
        if row is not None:
            rows.append(row)
    return rows


def end_token(run, asking) -> int | None:
    """The id that ends most answers in training; the tokenizer's EOS where no training rows tell."""
    ends = Counter(row.answer[-1] for row in trained_rows(run, asking) if row.end)
    return ends.most_common(1)[0][0] if ends else asking.tokenizer.eos_token_id


def asked_of(where: str, prompt: list[int], rest: list[int], tokenizer) -> Asked | None:
    """A row whose answer goes up to the first special token, that included."""
    special = {*tokenizer.all_special_ids, tokenizer.eos_token_id}
    stop = next((place for place, token in enumerate(rest) if token in special), None)
    answer = rest if stop is None else rest[: stop + 1]
    return Asked(where, prompt, answer, stop is not None) if len(answer) > (stop is not None) else None


def shared_length(one: list[int], other: list[int]) -> int:
    """How many ids two lists begin with alike."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def known(bench, rows: list[Asked]) -> list[Known]:
    """How the bench's model knows the answers."""
    found = reply_probes.forced(bench, [row.prompt for row in rows], [row.answer for row in rows])
    results = []
    for row, one in zip(rows, found, strict=True):
        nats = [-value for value in one.log_probs]
        stop = len(nats) - row.end
        end = (nats[-1], one.regrets[-1]) if row.end else (None, None)
        results.append(Known(row.where, nats[:stop], one.regrets[:stop], *end))
    return results


def spread(rows: list, size: int) -> list:
    """So many of the rows, at equal distances; all where there are no more."""
    if len(rows) <= size:
        return rows
    return [rows[place * len(rows) // size] for place in range(size)]
