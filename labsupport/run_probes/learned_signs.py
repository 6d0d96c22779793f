"""Signs in what the trained model makes of the right answers: of those it was trained on, and of others."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from labsupport.core.text import number
from labsupport.run_folders.causes import PROVES, SUGGESTS, Sign
from labsupport.run_probes import learned_probes, reply_probes
from labsupport.run_probes.learned_probes import Known

TRAINED, EVALUATED, BARE = 64, 32, 16  # rows that are looked at, at most
SMALL = 64  # rows of a small training set
ENOUGH = 12  # rows to compare training and evaluation by
SAME = 1e-6  # nats: less than any arithmetic but the same one
LITTLE = 0.05  # share of the base model's loss that a run took away which learned next to nothing
KNOWN = 0.7  # probability of the right token that counts as known, on average
BY_HEART = 0.02  # nats a token: the right token has 98 % on average
APART = 0.3  # nats a token between rows of the training and others
CONTRADICTED = math.log(10)  # nats of regret: another token is ten times as likely as the one that is right
SURE = 2.5  # standard errors


@dataclass
class Learned:
    """How right answers are known. rows: of the training, in all. trained, evaluated: of some rows of either,
    with the adapter. few, bare: of the same few training rows, with the adapter and without."""

    rows: int
    trained: list[Known]
    evaluated: list[Known]
    few: list[Known]
    bare: list[Known]


def of(run, bench, asking) -> list[Sign]:
    """The signs in a run's rows; [] (and a note) where it is not known which of their tokens are answers."""
    learned = measured(run, bench, asking)
    if not learned.trained:
        if run.train_rows:
            run.notes.append("Not checked: how well the training rows are known; none has an answer to it.")
        return []
    moved = [*unchanged(learned), *worse_than_base(learned)]
    if moved:
        return moved
    return [*by_heart(learned), *contradicted(learned), *no_end(learned)]


def measured(run, bench, asking) -> Learned:
    """What the signs are read from: spread over the rows, fewer of a large model."""
    rows = learned_probes.trained_rows(run, asking)
    trained = learned_probes.spread(rows, reply_probes.affordable(bench, TRAINED))
    others = learned_probes.spread(
        learned_probes.evaluation_rows(run, asking), reply_probes.affordable(bench, EVALUATED)
    )
    places = learned_probes.spread(list(range(len(trained))), reply_probes.affordable(bench, BARE))
    known = learned_probes.known(bench, trained)
    with bench.without_adapter():
        bare = learned_probes.known(bench, [trained[place] for place in places])
    few = [known[place] for place in places]
    return Learned(len(rows), known, learned_probes.known(bench, others), few, bare)


def mean(rows: list[Known]) -> float:
    """Nats a token, each row alike."""
    return statistics.fmean(row.mean for row in rows)


# ---------------------------------------------------------------- did it learn at all?


def unchanged(learned: Learned):
    """The adapter changes nothing, or next to nothing."""
    before, after = mean(learned.bare), mean(learned.few)
    text = (
        f"on {len(learned.few)} training rows the right answers cost {number(after, 4)} nats a token with "
        f"the adapter and {number(before, 4)} without"
    )
    apart = max(abs(a.mean - b.mean) for a, b in zip(learned.few, learned.bare, strict=True))
    if apart < SAME:
        yield Sign("no-gradient", SUGGESTS, f"{text}: it changes nothing at all")
    elif 0 <= before - after < LITTLE * before and surely_unknown(learned.few):
        yield Sign("lr-too-low", SUGGESTS, text)


def surely_unknown(rows: list[Known]) -> bool:
    """Whether the answers are far from known: else there was little to learn."""
    return mean(rows) > -math.log(KNOWN)


def worse_than_base(learned: Learned):
    """With the adapter, the answers that it was trained on are less likely than without."""
    rises = [a.mean - b.mean for a, b in zip(learned.few, learned.bare, strict=True)]
    before, after = mean(learned.bare), mean(learned.few)
    if surely(rises) and after - before > LITTLE * before:
        text = (
            f"the answers that it was trained on cost {number(after, 3)} nats a token with the adapter, "
            f"without it {number(before, 3)}: training made the model worse at them"
        )
        yield Sign("lr-too-high", PROVES if after > 1.5 * before else SUGGESTS, text)


def surely(values: list[float]) -> bool:
    """Whether the mean of these is above 0 by more than SURE standard errors."""
    if len(values) < 2:
        return False
    return statistics.fmean(values) > SURE * statistics.stdev(values) / math.sqrt(len(values))


# ---------------------------------------------------------------- what did it learn?


def by_heart(learned: Learned):
    """Few training rows are known by heart, and the evaluation's are not. Of many rows that is no fault:
    facts can only be learned by heart."""
    if not learned.evaluated or learned.rows > SMALL:
        return
    inside, outside = mean(learned.trained), mean(learned.evaluated)
    if inside < BY_HEART and outside - inside > APART:
        yield Sign(
            "memorised",
            SUGGESTS,
            f"the right answers cost {number(inside, 2)} nats a token in the {learned.rows} training "
            f"rows and {number(outside, 2)} in {len(learned.evaluated)} of the evaluation",
        )


def contradicted(learned: Learned):
    """The training rows are worse known than rows that the model never saw.

    Hard rows and too few steps make rows of both kinds hard. Rows that were trained on can only be worse than
    others if their answers are not what the rest of the training teaches.
    """
    inside, outside = learned.trained, learned.evaluated
    if len(inside) < ENOUGH or len(outside) < ENOUGH:
        return
    against = [[float(row.worst > CONTRADICTED) for row in rows] for rows in (inside, outside)]
    if not surely_above(*against) and not surely_above([r.mean for r in inside], [r.mean for r in outside]):
        return
    worst = max(inside, key=lambda row: row.worst)
    one, other = (int(sum(rows)) for rows in against)
    yield Sign(
        "noisy-labels",
        SUGGESTS,
        f"the answers that it was trained on cost the model {number(mean(inside), 2)} nats a token, those "
        f"of the evaluation, which it never saw, {number(mean(outside), 2)}; in {one} of {len(inside)} and "
        f"in {other} of {len(outside)} rows another token is ten times as likely as the one there",
        worst.where,
    )


def surely_above(one: list[float], other: list[float]) -> bool:
    """Whether the mean of one sample is above that of another by more than SURE standard errors."""
    error = math.hypot(*(statistics.stdev(values) / math.sqrt(len(values)) for values in (one, other)))
    return statistics.fmean(one) - statistics.fmean(other) > max(SURE * error, SAME)


def no_end(learned: Learned):
    """Behind a right answer the model does not stop, though it knows the answers."""
    rows = [row for row in learned.trained if row.end is not None and row.mean <= -math.log(KNOWN)]
    if len(rows) < len(learned.trained) / 2:
        return
    stops = sum(row.end_regret <= 0 for row in rows)
    if stops < len(rows) / 2:
        probability = 100 * math.exp(-statistics.median(row.end for row in rows))
        yield Sign(
            "eos-not-learned",
            SUGGESTS,
            f"{len(rows)} of {len(learned.trained)} training answers are known to the model, and behind "
            f"{len(rows) - stops} of them it would go on: the end token has a probability of "
            f"{number(probability, 2)} % in the middle one",
        )
