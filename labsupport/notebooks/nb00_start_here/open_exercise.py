"""An exercise without one right answer: label validation messages as well as you can, and see your score.

Whatever has the right form is accepted and scored, on the validation messages: the test sets stay closed.
"""

from __future__ import annotations

from labsupport.baselines import comparisons
from labsupport.checking import running
from labsupport.checking.exercise import Exercise, Result
from labsupport.evaluation import experiments, intervals
from labsupport.tasks import tickets

FORM = 'Return a dict of one or more of the four fields, such as {"urgency": "high"}.'
EXTRA = f"A ticket has four keys and no other: {', '.join(tickets.FIELDS)}."
SAME = "Return the same keys for every message: what you leave out once cannot be counted."
NULL = "Where the answer is null, return None itself: the text 'None' or 'null' would be a name to look for."
VALUE = "That value does not exist: a reply with it would be refused."
CLOSED = {"intent": tickets.INTENTS, "urgency": tickets.URGENCIES}


class Open(Exercise):
    """Its function takes a message's text and returns a label, or some of its fields. `cases` are a few
    messages on which wrong forms are told apart; scored are all validation messages."""

    def _judged(self, fn, cases, expected, got) -> Result:
        rows, labels = tickets.load("validation"), []

        def label_all():
            for row in rows:
                labels.append(fn(row["text"]))

        error = running.outcome(label_all, (), self.seconds and 15 * self.seconds).error
        if error is not None:
            return self._refused(running.told(fn, error) + ".", rows[len(labels)], len(labels))
        faults = [fault(label, labels[0]) for label in labels]
        if any(faults):
            first = next(i for i, problem in enumerate(faults) if problem)
            return self._refused(faults[first], rows[first], faults.count(None), labels[first])
        return Result("correct", score(labels, rows), self.name)

    def _refused(self, problem: str, row: dict, fine: int, *returned) -> Result:
        shown = f", it returned {returned[0]!r}" if returned else ""
        where = f"For {row['id']}, {row['text'][:60]!r}{shown}."
        return self._wrong(problem, f"{where} Right in {fine} of {len(tickets.load('validation'))} cases.")


def fault(label, first) -> str | None:
    """What is wrong with a label's form, or None. first: that of the first message."""
    if not isinstance(label, dict) or not label:
        return FORM
    if set(label) - set(tickets.FIELDS):
        return EXTRA
    if not isinstance(first, dict) or label.keys() != first.keys():
        return SAME
    for field, value in label.items():
        if field in CLOSED and value not in CLOSED[field]:
            return f"{VALUE} {field} is one of {', '.join(CLOSED[field])}."
        if field not in CLOSED and str(value).strip().lower() in ("none", "null", "") and value is not None:
            return NULL
        if field not in CLOSED and value is not None and not isinstance(value, str):
            return f"{VALUE} {field} is words of the message, or None."
    return None


def rights(labels: list[dict], rows: list[dict]) -> list[float]:
    """1 where all fields that a label has are the row's, else 0."""
    pairs = zip(labels, rows, strict=True)
    return [float(all(row[field] == value for field, value in label.items())) for label, row in pairs]


def score(labels: list[dict], rows: list[dict]) -> str:
    """How many are right, with the interval over families, and the same fields' numbers of the table."""
    fields = [field for field in tickets.FIELDS if field in labels[0]]
    right = rights(labels, rows)
    mean, low, high = (100 * value for value in intervals.interval(right, [row["family"] for row in rows]))
    what = "the whole ticket" if len(fields) == len(tickets.FIELDS) else " and ".join(fields)
    found = (
        f"The form is right. You get {what} right in {sum(right):.0f} of {len(rows)} validation messages: "
        f"{mean:.0f} % [{low:.0f}, {high:.0f}]. The table's rules:"
    )
    methods = comparisons.methods(experiments.published("baselines"))
    for split in comparisons.SETS:
        rules = methods["rules"][split]
        share = comparisons.interval(rules, split, lambda row: all(row[field] for field in fields))[0]
        found += f" {100 * share:.0f} % on {split.removeprefix('test_')},"
    return found.rstrip(",") + "."
