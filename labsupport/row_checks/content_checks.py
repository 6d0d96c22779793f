"""What the answers say taken together, and whether the evaluation looks like the data."""

from __future__ import annotations

from array import array
from collections import Counter
from statistics import median

from labsupport.findings.check import Check
from labsupport.findings.finding import Rule, hit_whole, shortened
from labsupport.training_data.record import content_of

DOMINANT = Rule(
    "dominant-answer",
    "warning",
    "When nearly all rows have one answer, giving it always is the cheapest way to a low loss.",
    "Take fewer of these rows, or more of the others.",
)
LABELS = Rule(
    "label-variants",
    "warning",
    "One label in several spellings is several labels to the model, and to any exact comparison.",
    "Write each label in one way.",
)
RARE = Rule(
    "rare-labels",
    "note",
    "Of a label with a handful of rows the model learns little, and an evaluation says little about it.",
    "Collect more rows of it, or join it with another label. A label that occurs once may be a typing error.",
)
FEW = Rule(
    "few-rows",
    "note",
    "From so few rows a model learns them by heart rather than what they have in common.",
    "Collect more rows (hundreds, where it can be), or put these into the prompt as examples.",
)
SMALL = Rule(
    "small-evaluation",
    "note",
    "On so few rows chance decides: a share measured on ten can be off by thirty points either way.",
    "Set a hundred rows or more aside for the evaluation.",
)
LENGTHS = Rule(
    "evaluation-lengths-differ",
    "warning",
    "Rows of another length are often of another kind, and then the evaluation says little about training.",
    "Draw the evaluation from the same source as the data, at random.",
)
RULES = (DOMINANT, LABELS, RARE, FEW, SMALL, LENGTHS)

MOSTLY = 0.9  # share of rows with the same answer: nine to one is still a task, and is told apart
ENOUGH_ROWS = 20  # below, shares say nothing
LABEL = 60  # characters: a longer answer is no label
MOST_LABELS = 500  # different answers; with more, or with less than ten rows for each, they are no labels
ROWS_PER_LABEL = 10
A_HANDFUL = 5  # rows of a label
FEW_ROWS = 10  # where OpenAI's service sets its minimum too
APART = 3  # times the median length, up or down
APART_BY = 100  # characters between the medians: "yes" and "positive" are alike
COMPARED = 20  # rows of each side from which on medians are compared


class Labels(Check):
    """Counts short answers while there are few different ones, as in classification."""

    def __init__(self, run):
        super().__init__(run)
        self.rows, self.labels = 0, Counter()

    def see(self, record):
        if record.answers:
            self.rows += 1
            answer = record.answers[-1].strip()
            if answer and (len(answer) <= LABEL or self.rows <= MOST_LABELS):
                self.labels[answer[:2000]] += 1
            if len(self.labels) > 4 * MOST_LABELS:  # no labels then: the most frequent answers are enough
                self.labels = Counter(dict(self.labels.most_common(MOST_LABELS)))
        return ()

    def end(self):
        if self.rows < ENOUGH_ROWS or not self.labels:
            return
        answer, count = self.labels.most_common(1)[0]
        if count > MOSTLY * self.rows:
            yield hit_whole(DOMINANT, f"{count:,} of {self.rows:,} answers are {shortened(answer, 80)!r}")
        if not self.are_labels():
            return
        spellings: dict[str, list[str]] = {}
        for label in self.labels:
            spellings.setdefault(spelling(label), []).append(label)
        for variants in spellings.values():
            if len(variants) > 1 and not any(label[:1] in "{[" for label in variants):
                text = " and ".join(f"{label!r} ({self.labels[label]:,})" for label in variants[:4])
                yield hit_whole(LABELS, text)
        counts = [(variants, sum(self.labels[one] for one in variants)) for variants in spellings.values()]
        rare = [f"{variants[0]!r} ({count})" for variants, count in counts if count < A_HANDFUL]
        if rare:
            yield hit_whole(RARE, f"{len(rare):,} of {len(counts):,} labels: {', '.join(rare[:5])}")

    def are_labels(self) -> bool:
        """Whether the answers are a few short ones again and again."""
        short = [label for label in self.labels if len(label) <= LABEL]
        few = 1 < len(short) <= min(MOST_LABELS, self.rows / ROWS_PER_LABEL)
        return few and sum(self.labels.values()) >= self.rows and len(short) == len(self.labels)


def spelling(label: str) -> str:
    """The label without what people write in one way or another: case, spaces or underscores, a full stop."""
    return " ".join(label.casefold().replace("_", " ").split()).strip(" .!,;:\"'") or label


class Sizes(Check):
    """How many rows there are, and how long those of data and evaluation are."""

    def __init__(self, run):
        super().__init__(run)
        self.lengths = {(side, what): array("I") for side in ("data", "evaluation") for what in WHAT}

    def see_eval(self, record):
        self.measure("evaluation", record)
        return ()

    def see(self, record):
        self.measure("data", record)
        return ()

    def measure(self, side: str, record) -> None:
        """Note the length of prompt and answer; a text without them is all answer."""
        asked = sum(len(content_of(one)) for one in record.messages if one.get("role") == "user")
        answered = sum(map(len, record.answers)) if record.text is None else len(record.text)
        for what, length in zip(WHAT, (asked, answered), strict=True):
            self.lengths[side, what].append(length)

    def end(self):
        rows, eval_rows = len(self.lengths["data", WHAT[0]]), len(self.lengths["evaluation", WHAT[0]])
        if rows < FEW_ROWS:
            yield hit_whole(FEW, f"{rows} rows")
        if 0 < eval_rows < FEW_ROWS:
            yield hit_whole(SMALL, f"{eval_rows} rows")
        if min(rows, eval_rows) < COMPARED:
            return
        for what in WHAT:
            data, other = median(self.lengths["data", what]), median(self.lengths["evaluation", what])
            if abs(data - other) > APART_BY and max(data, other) > APART * min(data, other):
                yield hit_whole(
                    LENGTHS,
                    f"{what}s have {data:,.0f} characters in the data, {other:,.0f} in the evaluation",
                )


WHAT = ("prompt", "answer")
CHECKS = (Labels, Sizes)
