"""The numbers to beat on both test sets: one row of each of the 144 lookalike families and all 200
production rows. Every baseline tunes its settings on validation rows only: rules their penalties and
threshold on all 300, prompts their wording and number of examples on one row of each of 24 families, by
the NLL of the right answer. Prompted baselines are scored by forced choice, free and constrained by a
grammar; the first 24 production rows also have their constrained reply written out, as a check."""

from __future__ import annotations

import time

from labsupport.core import profiles

NAMES = ("majority", "rules", "rules_few", "zero_shot", "few_shot", "retrieved")
CELLS = [{"baseline": name} for name in NAMES]
TUNING_FAMILIES = 24
WRITTEN = 24
EXAMPLES = {"few_shot": (4, 8, 16), "retrieved": (2, 4)}


def run(cell: dict) -> dict:
    """Chosen settings and per-row results on both sets. `right` and `constrained` are flags by field."""
    name = cell["baseline"]
    return prompted(name) if name in ("zero_shot", *EXAMPLES) else without_language_model(name)


def without_language_model(name: str) -> dict:
    """Majority and rules, fitted on the training rows."""
    from labsupport.baselines import comparisons, rule_based
    from labsupport.evaluation import metrics
    from labsupport.tasks import tickets

    train, validation = tickets.load("train"), tickets.load("validation")
    began = time.perf_counter()
    if name == "majority":
        label = rule_based.majority(train)
        settings, predict = {}, lambda texts: [label] * len(texts)
    else:
        rules = rule_based.fit(train[: comparisons.TRAIN_ROWS] if name == "rules_few" else train, validation)
        settings, predict = rules.settings, rules.predict
    result: dict = {"settings": settings, "seconds_to_fit": round(time.perf_counter() - began, 1)}
    for split in comparisons.SETS:
        rows = comparisons.one_each(split)
        began = time.perf_counter()
        labels = predict([row["text"] for row in rows])
        result[f"{split}_ms_a_row"] = round(1000 * (time.perf_counter() - began) / len(rows), 3)
        rights = metrics.field_rights(labels, rows)
        result[split] = [
            {"id": row["id"], "right_exact": all(right.values()), "right": comparisons.flags(right)}
            for row, right in zip(rows, rights, strict=True)
        ]
    return result


def prompted(name: str) -> dict:
    """A baseline that prompts the base model, tuned on validation and then scored on both sets."""
    import torch

    from labsupport.baselines import comparisons, prompt_scoring, prompting
    from labsupport.core import upstream
    from labsupport.evaluation import metrics
    from labsupport.models import base_model
    from labsupport.tasks import tickets

    upstream.keep_freed_memory()
    torch.set_num_threads(profiles.current().threads)
    model, tokenizer = base_model.load()
    train = tickets.load("train")[: comparisons.TRAIN_ROWS]
    validation = comparisons.one_each("validation")
    validation = validation[:: max(1, len(validation) // TUNING_FAMILIES)][:TUNING_FAMILIES]

    def score(rows: list[dict], settings: dict, constrained: bool) -> list[dict]:
        prompts = prompting.prompts(tokenizer, name, train, rows, **settings)
        return prompt_scoring.score(model, tokenizer, rows, prompts, constrained=constrained)

    def tried(settings: dict) -> dict:
        scores = score(validation, settings, constrained=False)
        return settings | {"nll": round(sum(s["nll"]["all"] for s in scores) / len(scores), 3)}

    counts = EXAMPLES.get(name, (0,))
    tuning = [tried({"wording": wording, "examples": counts[0]}) for wording in prompting.wordings()]
    wording = min(tuning, key=lambda t: t["nll"])["wording"]
    tuning += [tried({"wording": wording, "examples": count}) for count in counts[1:]]
    settings = {k: v for k, v in min(tuning, key=lambda t: t["nll"]).items() if k != "nll"}
    result: dict = {"settings": settings, "tuning": tuning, "dtype": str(model.dtype)}
    for split in comparisons.SETS:
        rows = comparisons.one_each(split)
        began = time.perf_counter()
        scores = score(rows, settings, constrained=True)
        result[f"{split}_ms_a_row"] = round(1000 * (time.perf_counter() - began) / len(rows))
        result[split] = [row_record(row, s) for row, s in zip(rows, scores, strict=True)]
    some = comparisons.one_each("test_production")[:WRITTEN]
    prompts = prompting.prompts(tokenizer, name, train, some, **settings)
    replies = prompt_scoring.generate(model, tokenizer, some, prompts, constrained=True)
    result["valid"] = int(sum(metrics.valid_json(replies)))
    for row, reply in zip(some, replies, strict=True):
        next(r for r in result["test_production"] if r["id"] == row["id"])["reply"] = reply
    return result


def row_record(row: dict, score: dict) -> dict:
    """One row's scores, short: NLL in nats to three digits, fields as flags."""
    from labsupport.baselines import comparisons

    return {
        "id": row["id"],
        "right_exact": score["exact"],
        "right": comparisons.flags(score["right"]),
        "constrained_exact": score["constrained"]["exact"],
        "constrained": comparisons.flags(score["constrained"]["right"]),
        "nll": {field: round(value, 3) for field, value in score["nll"].items()},
    }
