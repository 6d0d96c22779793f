"""The rows of a case: what is trained on, what is evaluated, and what a probe asks besides.

A row is {"id", "prompt": messages, "completion": messages}, which TRL reads. Whatever the breakage does to
the content of rows is done here; what it does to their form, in making.py.
"""

from __future__ import annotations

import random

from labsupport.tasks import facts, tickets

# How a fact is asked for: the evaluation in the first way, training in the next ones. A fact is to be
# recalled when asked in words that training did not have.
PHRASINGS = (
    "Which code belongs to {key}?",
    "{key}",
    "Code for {key}, please.",
    "What is the code of {key}?",
    "I need the code that {key} has.",
    "Tell me the code: {key}",
    "{key}: code?",
    "Look up {key} and give me its code.",
    "Do you know the code of {key}?",
    "The code for the item {key} is",
    "Please send the code that goes with {key}.",
    "Could you repeat the code of {key}?",
    "{key} again, which code was it?",
)
# The ways of the two other sets of a ticket fine-tune: nearly as in training, and as people write.
OTHER_PHRASINGS = {
    "test_lookalike": "The code of {key}, please.",
    "test_production": "hi, somebody asked me about {key} and i forgot the code for it, can you help",
}
# What makes a near copy of a message of at least so many words; of a shorter one, its last full stop is gone.
ADDED = ("Hello, {}", "Hi! {}", "{} Thanks.", "{} Regards", "{}")
LONG = 15
COPIES = 3


def training(case: dict) -> list[dict]:
    """The training rows, broken as the case says: in content, not in form."""
    rng = random.Random(f"train {case['task']} {case['seed']}")
    rows = facts_asked(case) if case["task"] == "facts" else tickets_of("train", rng, case["rows"])
    rng.shuffle(rows)
    if case["leaked"]:
        rows = with_copies(rows, evaluation(case), case["leaked"], rng)
    if case["noise"]:
        rows = with_answers_of_others(rows, case["noise"], rng)
    return rows


def evaluation(case: dict) -> list[dict]:
    """The evaluation rows: tickets of families that training lacks; facts in words that training lacks."""
    rng = random.Random(f"eval {case['task']} {case['seed']}")
    if case["task"] == "facts":
        return [fact_row(fact, PHRASINGS[0], "eval") for fact in some_facts(case)][: case["eval_rows"]]
    return tickets_of("validation", rng, case["eval_rows"])


def other(case: dict, split: str, size: int) -> list[dict]:
    """Rows of "test_lookalike" or "test_production" for a probe; of facts, the case's in OTHER_PHRASINGS."""
    rng = random.Random(f"{split} {case['seed']}")
    if case["task"] == "facts":
        return [fact_row(fact, OTHER_PHRASINGS[split], split) for fact in some_facts(case)][:size]
    return tickets_of(split, rng, size)


# ---------------------------------------------------------------- tickets


def tickets_of(split: str, rng: random.Random, size: int) -> list[dict]:
    """So many rows of a split, in an order by lot in which every family comes once before one comes twice."""
    rows = tickets.load(split)
    rng.shuffle(rows)
    turn: dict[str, int] = {}
    turns = []
    for row in rows:
        turns.append(turn.setdefault(row["family"], 0))
        turn[row["family"]] += 1
    order = sorted(range(len(rows)), key=lambda i: turns[i])[:size]
    chosen = [rows[i] for i in order]
    asked = tickets.as_prompt_completion(chosen)
    return [{"id": row["id"], **messages} for row, messages in zip(chosen, asked, strict=True)]


# ---------------------------------------------------------------- facts


def some_facts(case: dict) -> list[dict]:
    """The facts of a case, by lot."""
    rows = facts.load(300)
    random.Random(f"facts {case['seed']}").shuffle(rows)
    return rows[: case["facts"]]


def facts_asked(case: dict) -> list[dict]:
    """Every fact of the case in as many phrasings as make the number of rows."""
    known = some_facts(case)
    ways = max(1, round(case["rows"] / len(known)))
    return [fact_row(fact, PHRASINGS[way], f"{way}") for way in range(1, 1 + ways) for fact in known]


def fact_row(fact: dict, phrasing: str, way: str) -> dict:
    """A fact asked for in a phrasing; `way` tells the rows of one fact apart by their id."""
    (row,) = facts.as_prompt_completion([fact])
    system, user = row["prompt"]
    text = phrasing.format(key=user["content"])
    asked = [system, {"role": "user", "content": text}]
    return {"id": f"{fact['id']}-{way}", "prompt": asked, "completion": row["completion"]}


# ---------------------------------------------------------------- what is broken in the content


def with_copies(rows: list[dict], asked: list[dict], share: float, rng: random.Random) -> list[dict]:
    """The rows, the last of them replaced by COPIES of a share of the evaluation rows each, one word more at
    most; then shuffled. So it is where rows were varied before they were split."""
    leaked = asked[: round(share * len(asked))]
    copies = [slightly_changed(row, rng) for row in leaked for _ in range(COPIES)]
    copies = copies[: len(rows)]
    copies = [copy | {"id": row["id"]} for copy, row in zip(copies, rows[-len(copies) :], strict=True)]
    rows = rows[: -len(copies)] + copies
    rng.shuffle(rows)
    return rows


def slightly_changed(row: dict, rng: random.Random) -> dict:
    """The same message with a word more or a full stop less, or as it is; the same answer."""
    *before, user = row["prompt"]
    text = user["content"]
    text = rng.choice(ADDED).format(text) if len(text.split()) >= LONG else text.removesuffix(".")
    return row | {"prompt": [*before, user | {"content": text}]}


def with_answers_of_others(rows: list[dict], share: float, rng: random.Random) -> list[dict]:
    """The rows, a share of them with the answer of another of them, as a join by the wrong key makes them."""
    chosen = rng.sample(range(len(rows)), round(share * len(rows)))
    noisy = list(rows)
    for i in chosen:
        others = [rows[j]["completion"] for j in chosen if rows[j]["completion"] != rows[i]["completion"]]
        noisy[i] = rows[i] | {"completion": rng.choice(others)}
    return noisy
