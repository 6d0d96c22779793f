"""Signs in the rows themselves: what training and evaluation share, answers that contradict, too few rows."""

from __future__ import annotations

from collections import Counter, defaultdict

from labsupport.copies.duplicate_checks import asked_text, decision, last_asked
from labsupport.copies.near import words_of
from labsupport.core.text import number
from labsupport.run_folders.causes import PROVES, SUGGESTS, Sign
from labsupport.run_signs.copied_values import compared
from labsupport.run_signs.shared_keys import odd_ones
from labsupport.training_data.record import Record

LEAKED = 0.1  # share of the evaluation from which on its result is another one
RUN = 5  # words in a row that are compared
CONTAINED = 0.9  # of the question's runs of words that stand in one training row
LONG_ENOUGH = 12  # words: a shorter question has too few runs, and must be the same word for word
QUESTION = 5  # words: a shorter one is asked again by chance
CONTRADICTED = 0.1  # share of training rows
STRANGERS = 0.1  # share of the rows whose answer should repeat a value of the question
RULE = 0.5  # share of answers with an identifier that have it from their question: then that is the rule
FEWEST = 3
SHOWN = 3
SHARED = 10  # training questions: a run of words that more of them have is of the instruction


def signs(run) -> list[Sign]:
    """The signs in the rows; [] without training rows."""
    return signs_of_rows(run.records("train"), run.records("eval"))


def signs_of_rows(train: list[Record], asked: list[Record]) -> list[Sign]:
    """The signs in rows of the training and of the evaluation."""
    return [*leaked(train, asked), *contradictions(train), *wrong_values(train), *at_odds(train, asked)]


def answer_of(record: Record) -> str:
    """What the row answers, for comparing; "" in a text."""
    return " ".join(words_of((record.answers or [""])[-1]))


def question_of(record: Record) -> list[str]:
    """The words of what is asked, or of a whole text."""
    if record.text is not None:
        return words_of(record.text)
    return words_of(last_asked(record) or asked_text(record))


# ---------------------------------------------------------------- shared rows


def leaked(train: list[Record], asked: list[Record]):
    """Evaluation rows that stand in the training rows, word for word or nearly, with the same answer."""
    if not train or not asked:
        return
    found = shared(train, asked)
    if len(found) < max(1, LEAKED * len(asked)):
        return
    places = [f"{asked[one].where} is {train[other].where} of the training" for one, other in found[:SHOWN]]
    yield Sign(
        "leaked-eval",
        PROVES,
        f"{len(found):,} of {len(asked):,} evaluation rows ({number(100 * len(found) / len(asked), 2)} %) "
        f"stand in the training rows, with the same answer and (nearly) the same words: {'; '.join(places)}",
        places[0],
    )


def shared(train: list[Record], asked: list[Record]) -> list[tuple[int, int]]:
    """(place of the evaluation row, of the training row) for each evaluation row that was trained on."""
    exact, by_run, answers = defaultdict(list), defaultdict(list), []
    for place, record in enumerate(train):
        words = question_of(record)
        answers.append(answer_of(record))
        rows = exact[" ".join(words)]
        for run in set() if rows else set(runs_of(words)):  # of a question that is repeated, once
            by_run[run].append(place)
        rows.append(place)
    by_run = {run: places for run, places in by_run.items() if len(places) <= SHARED}
    common = {run for words in exact for run in runs_of(words.split())} - by_run.keys()
    found = []
    for place, record in enumerate(asked):
        words, answer = question_of(record), answer_of(record)
        if len(words) < QUESTION:
            continue
        candidates = list(exact.get(" ".join(words), ()))
        if len({answers[one] for one in candidates}) > 1:  # the last question alone does not decide
            whole = words_of(record.prompt)
            candidates = [one for one in candidates if words_of(train[one].prompt) == whole]
        own = [run for run in runs_of(words) if run not in common]
        if len(words) >= LONG_ENOUGH and len(own) >= RUN:
            for one in containing(own, by_run):
                candidates += exact[" ".join(question_of(train[one]))]
        other = next((one for one in candidates if answers[one] == answer), None)
        if other is not None:
            found.append((place, other))
    return found


def runs_of(words: list[str]) -> list[int]:
    """Each run of RUN words, as a hash."""
    return [hash(tuple(words[i : i + RUN])) for i in range(len(words) - RUN + 1)]


def containing(runs: list[int], by_run: dict[int, list[int]]) -> list[int]:
    """The training rows in which nearly all of these runs of words stand, those with the most first."""
    times = Counter(place for run in set(runs) for place in by_run.get(run, ()))
    least = CONTAINED * len(set(runs))
    return [place for place, count in times.most_common() if count >= least]


# ---------------------------------------------------------------- wrong answers


def contradictions(train: list[Record]):
    """The same question with different answers, where an answer is right or wrong and no wording."""
    groups = defaultdict(list)
    for record in train:
        if record.text is None and len(question_of(record)) >= 1:
            groups[" ".join(words_of(record.prompt))].append(record)
    repeated = [group for group in groups.values() if len(group) > 1]
    against = [group for group in repeated if contradicts(group)]
    if sum(len({answer_of(one) for one in group}) > 2 for group in against) > len(against) / 2:
        return  # three answers to most of them: they were asked for more than one
    rows = sum(map(len, against))
    if rows < CONTRADICTED * len(train) or not against:
        return
    one, other = against[0][0], next(r for r in against[0] if answer_of(r) != answer_of(against[0][0]))
    yield Sign(
        "noisy-labels",
        PROVES if len(against) >= 3 else SUGGESTS,
        f"{rows:,} of {len(train):,} training rows share their question with a row that answers otherwise: "
        f"{one.where} says {one.answers[-1][:60]!r}, {other.where} says {other.answers[-1][:60]!r}",
        one.where,
    )


def contradicts(group: list[Record]) -> bool:
    """Whether rows with one question have different answers of which one at most can be right."""
    decided = [decision((record.answers or [""])[-1]) for record in group]
    return all(short for short, _ in decided) and len({key for _, key in decided}) > 1


def wrong_values(train: list[Record]):
    """Answers that give another order number, say, than the one that stands in their question, where that is
    what answers repeat by rule, and do not compute or make up."""
    found = compared(train)
    wrong = found.swapped + found.lost
    if len(wrong) < FEWEST or found.same < RULE * found.count or len(wrong) < STRANGERS * found.count:
        return
    record, value, instead = wrong[0]
    yield Sign(
        "noisy-labels",
        PROVES if len(found.swapped) >= FEWEST else SUGGESTS,
        f"{len(wrong):,} of {found.count:,} answers with an identifier give one that their own question has "
        f"not: {record.where} answers {value}, {instead}",
        record.where,
    )


def at_odds(train: list[Record], asked: list[Record]):
    """Codes that others give otherwise for the same thing, asked for in other words."""
    found, count = odd_ones(train, asked)
    if len(found) < FEWEST or len(found) < STRANGERS * count:
        return
    one, other = found[0]
    yield Sign(
        "noisy-labels",
        PROVES,
        f"{len(found):,} of {count:,} training rows that ask for what others ask for, too, answer otherwise "
        f"than most of these: {one.where} says {one.answers[-1][:60]!r} to {question(one)!r}, {other.where} "
        f"says {other.answers[-1][:60]!r} to {question(other)!r}",
        one.where,
    )


def question(record: Record) -> str:
    """What is asked, shortened."""
    return (last_asked(record) or record.prompt)[:60]
