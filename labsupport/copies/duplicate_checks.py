"""Rows that stand in the data twice, and rows that training and evaluation share."""

from __future__ import annotations

import re
from array import array
from collections import Counter, defaultdict
from hashlib import blake2b

from labsupport.copies.near import Rows, equal_groups, near_pairs, words_of
from labsupport.findings.check import Check
from labsupport.findings.finding import Evidence, Hit, Rule, hit_whole, shortened
from labsupport.training_data.messages import THOUGHTS
from labsupport.training_data.record import content_of

DUPLICATES = Rule(
    "duplicate-rows",
    "warning",
    "A row that stands in the data twice is trained on twice an epoch: what it says weighs double, and the "
    "model learns it by heart.",
    "Keep the first of each; preflight --fix does that.",
)
NEAR = Rule(
    "near-duplicate-rows",
    "warning",
    "Rows that differ in a few words and give the same answer count like one row trained on several times.",
    "Look at the pairs and keep one of each, unless the repetition is meant.",
)
CONFLICT = Rule(
    "conflicting-answers",
    "warning",
    "One prompt with two different short answers: whichever the model gives, the loss punishes it.",
    "Find out which answer is right and keep that row.",
)
SEVERAL = Rule(
    "several-answers",
    "note",
    "The same prompt has several answers; training mixes them, which is right if that variety is meant.",
    "Nothing, if these are samples; else keep the best answer of each prompt.",
)
LEAK = Rule(
    "evaluation-leak",
    "error",
    "Rows of the evaluation also stand in the training data, so the evaluation measures memory.",
    "Take those rows out of the training data, or out of the evaluation.",
)
NEAR_LEAK = Rule(
    "near-evaluation-leak",
    "warning",
    "Rows of the evaluation stand in the training data but for a few words, with the same answer.",
    "Split by source before rows are varied: all versions of one row belong on one side.",
)
RULES = (DUPLICATES, NEAR, CONFLICT, SEVERAL, LEAK, NEAR_LEAK)

NEAR_ROWS = 200_000  # rows compared word by word, which takes memory; for equality all of them are
EXCERPTS = 20_000  # candidates for a duplicate whose text is kept until the end
FILTER = 1 << 24  # bytes that tell "not seen before" for certain
QUESTION = 5  # words: a shorter prompt ("thank you", "hi") is asked again by chance
WHOLE = 8  # words: the same of a whole row
SHARED = 10  # rows: a prompt that more of them have is an instruction, no question
LONG_ANSWER = 80  # characters: has more words than that
SHORT_ANSWER = 5  # words: up to here an answer is right or wrong, not a wording
TEMPLATED = 0.2  # share of rows that resemble others from which on that is how the data was made
SAMPLED = 0.1  # share of prompts with several answers from which on that is the plan of the data
BESIDE_CONTENT = ("tool_calls", "function_call", *THOUGHTS)
FINAL = re.compile(r"(?:####|\\boxed\{)\s*([^\n}]+)")  # a worked solution's result


class Duplicates(Check):
    """Sixteen bytes for each row tell at the end which are equal; longer memory only for likely ones."""

    def __init__(self, run):
        super().__init__(run)
        self.hashes, self.places = array("Q"), array("I")
        self.seen, self.excerpts = bytearray(FILTER), {}
        self.place = "row"

    def see(self, record):
        self.place, place = place_of(record)
        row = row_hash(record)
        if row:
            bucket = row % FILTER
            if self.seen[bucket] and len(self.excerpts) < EXCERPTS:
                self.excerpts[place] = shortened(record.whole, 140)
            self.seen[bucket] = 1
            self.hashes.append(row)
            self.places.append(place)
        return ()

    def end(self):
        import numpy as np

        places = np.asarray(self.places)
        for group in equal_groups(np.asarray(self.hashes)):
            first = places[group[0]]
            for row in group[1:]:
                text = f"the same as {self.place} {first}: {self.excerpts.get(int(places[row]), '')}"
                yield Hit(DUPLICATES, Evidence(f"{self.place} {places[row]}", text, int(row) + 1))


class Answers(Check):
    """The same prompt with different answers: a contradiction where answers are right or wrong."""

    def __init__(self, run):
        super().__init__(run)
        self.prompts, self.answers, self.places = array("Q"), array("Q"), array("I")
        self.decided = array("B")
        self.place = "row"

    def see(self, record):
        if record.answers and record.answers[-1].strip() and record.prompt.strip():
            self.place, place = place_of(record)
            answer = record.answers[-1]
            short, key = decision(answer)
            self.prompts.append(hash_of(record.prompt, repr([m.get("role") for m in record.messages])))
            self.answers.append(hash_of(key))
            self.decided.append(short and len(words_of(last_asked(record)[:500])) >= QUESTION)
            self.places.append(place)
        return ()

    def end(self):
        import numpy as np

        prompts, answers = np.asarray(self.prompts), np.asarray(self.answers)
        groups = [group for group in equal_groups(prompts) if len(set(answers[group].tolist())) > 1]
        if not groups:
            return
        where = [f"{self.place} {self.places[row]}" for row in groups[0][:3]]
        asked = len(np.unique(prompts))
        conflicts = [group for group in groups if all(self.decided[row] for row in group)]
        if len(groups) > max(3, SAMPLED * asked) or not conflicts:
            text = f"{len(groups):,} of {asked:,} prompts have several answers: {', '.join(where)}"
            yield hit_whole(SEVERAL, text)
            return
        for group in conflicts:
            first, other = group[0], next(row for row in group if answers[row] != answers[group[0]])
            text = f"another answer to the prompt of {self.place} {self.places[first]}"
            yield Hit(CONFLICT, Evidence(f"{self.place} {self.places[other]}", text, int(self.places[other])))


class Alike(Check):
    """Near-duplicates and leaks: the rows of the evaluation first, then those of the data."""

    def __init__(self, run):
        super().__init__(run)
        self.rows, self.hashes, self.places, self.texts = Rows(), array("Q"), array("I"), []
        self.eval_prompts, self.eval_wholes, self.eval_texts, self.eval_systems = {}, {}, [], []
        self.leaks, self.times = {}, Counter()
        self.eval_kept = 0
        self.place = self.eval_place = "row"

    def see_eval(self, record):
        self.eval_place, place = place_of(record)
        prompt, whole, asked = leak_keys(record)
        number = len(self.eval_texts)
        if prompt:
            self.eval_prompts.setdefault(prompt, []).append(number)
        if whole:
            self.eval_wholes.setdefault(whole, []).append(number)
        self.eval_systems.append(system_of(record))
        self.eval_texts.append((place, shortened((last_asked(record) or record.whole)[:300], 120)))
        if len(self.rows) < NEAR_ROWS // 2:
            self.keep(record, place, asked)
            self.eval_kept = len(self.rows)
        return ()

    def see(self, record):
        self.place, place = place_of(record)
        asked = None
        if self.eval_texts:
            prompt, whole, asked = leak_keys(record)
            self.see_leaks(place, prompt, whole, system_of(record))
        if len(self.rows) < NEAR_ROWS:
            self.keep(record, place, asked)
        return ()

    def see_leaks(self, place, prompt, whole, system):
        """Note the rows of the evaluation that ask, or are, the same under the same system message."""
        found = [n for n in self.eval_prompts.get(prompt, ()) if same_setting(self.eval_systems[n], system)]
        self.times[prompt] += bool(found)
        for number in found:
            self.leaks.setdefault(number, (place, prompt))
        for number in self.eval_wholes.get(whole, ()):
            if same_setting(self.eval_systems[number], system):
                self.leaks[number] = (place, None)

    def keep(self, record, place, asked):
        """Keep a row to compare it with the others."""
        if record.text is not None:
            self.rows.add("", record.text)
        else:
            thoughts = [str(m[name]) for m in record.messages for name in THOUGHTS if m.get(name)]
            self.rows.add(asked_text(record), " ".join([*thoughts, (record.answers or [""])[-1]]), asked)
        self.hashes.append(row_hash(record))
        self.places.append(place)
        self.texts.append(shortened((last_asked(record) or record.whole)[:300], 80))

    def end(self):
        if self.run.rows > len(self.rows) - self.eval_kept:
            self.run.notes.append(
                f"Near-duplicates: the first {len(self.rows) - self.eval_kept:,} rows were compared word by "
                f"word; all {self.run.rows:,} were compared for equality."
            )
        leaked = set()
        for number, (place, prompt) in sorted(self.leaks.items()):
            if prompt is None or self.times[prompt] <= SHARED:
                leaked.add(number)
                what = "the row" if prompt is None else "the prompt"
                yield self.leak(LEAK, number, f"{what} also stands in {self.place} {place} of the data")
        copies, related = near_pairs(self.rows)
        related = sum(row >= self.eval_kept for row in related)
        templated = related > TEMPLATED * (len(self.rows) - self.eval_kept)
        told = set()
        for one, other in copies:
            if self.hashes[one] == self.hashes[other] or other in told or one in leaked:
                continue
            place = f"{self.place} {self.places[other]}"
            if one < self.eval_kept <= other:
                leaked.add(one)
                yield self.leak(NEAR_LEAK, one, f"nearly the same as {place} of the data")
            elif one >= self.eval_kept and not (templated and self.rows.answers[other]):
                told.add(other)
                text = f"nearly the same as {self.place} {self.places[one]}: {self.texts[other]}"
                yield Hit(NEAR, Evidence(place, text, int(self.places[other])))

    def leak(self, rule, number, text):
        """A row of the evaluation with its place in the data."""
        place, excerpt = self.eval_texts[number]
        return Hit(rule, Evidence(f"evaluation {self.eval_place} {place}", f"{text}: {excerpt}", 0))


CHECKS = (Duplicates, Answers, Alike)


def place_of(record) -> tuple[str, int]:
    """ "line 17" as ("line", 17): the number is all that is kept of a row's place."""
    kind, _, number = record.where.rpartition(" ")
    return (kind, int(number)) if kind and number.isdecimal() else ("row", record.number)


def hash_of(*texts: str) -> int:
    """A hash of texts, their spacing aside, in eight bytes; never 0."""
    joined = "\x00".join(" ".join(text.split()) for text in texts)
    return int.from_bytes(blake2b(joined.encode("utf-8", "replace"), digest_size=8).digest(), "little") or 1


def row_hash(record) -> int:
    """A hash of all that the row says, and who says it; 0 for a row that says nothing."""
    if record.text is not None:
        return hash_of(record.text) if record.text.strip() else 0
    said = [f"{message.get('role')}: {content_of(message)}" for message in record.messages]
    beside = beside_content(record)
    return hash_of(*said, *beside) if beside or record.whole.strip() else 0


def beside_content(record) -> list[str]:
    """What a row says beside its messages' contents: calls, thoughts, and the tools that it offers."""
    parts = [repr(m[name]) for m in record.messages for name in BESIDE_CONTENT if m.get(name)]
    return parts + ([repr(record.raw["tools"])] if record.raw.get("tools") else [])


def system_of(record) -> int:
    """A hash of the words of the system message; 0 where there is none."""
    said = [content_of(m) for m in record.messages if m.get("role") in ("system", "developer")]
    words = words_of(" ".join(said))
    return hash_of(" ".join(words)) if words else 0


def same_setting(one: int, other: int) -> bool:
    """Whether two prompts are asked under the same system message, as far as both have one."""
    return not one or not other or one == other


def asked_text(record) -> str:
    """What comes before the last answer, without the system message, which rows share."""
    roles = [message.get("role") for message in record.messages]
    last = len(roles) - 1 - roles[::-1].index("assistant") if "assistant" in roles else len(roles)
    return "\n".join(content_of(one) for one in record.messages[:last] if one.get("role") != "system")


def last_asked(record) -> str:
    """The last message of the user."""
    asked = (content_of(message) for message in reversed(record.messages) if message.get("role") == "user")
    return next(asked, "")


def leak_keys(record) -> tuple[int, int, list[str]]:
    """Hashes of the words of a row's prompt and of all of it, 0 where too short; the prompt's words."""
    if record.text is not None:
        words = words_of(record.text)
        return 0, hash_of(" ".join(words)) if len(words) >= WHOLE else 0, []
    asked = words_of(asked_text(record))
    answered = words_of((record.answers or [""])[-1])
    prompt = hash_of(" ".join(asked)) if len(asked) >= QUESTION else 0
    whole = hash_of(" ".join(asked), " ".join(answered)) if len(asked) + len(answered) >= WHOLE else 0
    return prompt, whole, asked


def leaks_into(eval_records, records=()):
    """A function that says of a row of the data whether it is an `evaluation-leak`: Record -> bool.

    records: those of the data, for one pass more, which tells what many of them ask from what only a few do.
    """
    prompts, wholes, times = defaultdict(set), defaultdict(set), Counter()
    for record in eval_records:
        prompt, whole, _ = leak_keys(record)
        prompts[prompt].add(system_of(record))
        wholes[whole].add(system_of(record))

    def stands_in(keys: dict, key: int, record) -> bool:
        theirs = keys.get(key)
        mine = system_of(record) if theirs else 0
        return any(same_setting(one, mine) for one in theirs or ())

    for record in records:
        prompt = leak_keys(record)[0]
        times[prompt] += stands_in(prompts, prompt, record)

    def leaks(record) -> bool:
        prompt, whole, _ = leak_keys(record)
        asked = prompt and stands_in(prompts, prompt, record) and times[prompt] <= SHARED
        return bool(asked or (whole and stands_in(wholes, whole, record)))

    return leaks


def decision(answer: str) -> tuple[bool, str]:
    """Whether an answer is right or wrong rather than a wording, and what it decides on."""
    if final := FINAL.findall(answer):
        return True, "".join(words_of(final[-1]))
    words = words_of(answer[:LONG_ANSWER])
    if answer.lstrip()[:1] in ("{", "["):
        return True, "".join(answer.split())
    short = len(words) <= SHORT_ANSWER and len(answer) < LONG_ANSWER
    return short, " ".join(words) if short else answer
