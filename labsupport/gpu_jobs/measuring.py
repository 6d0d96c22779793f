"""What the jobs measure of a model on the course's data: rows sized by the profile, columns and intervals."""

from __future__ import annotations

from labsupport.core.profiles import Profile
from labsupport.evaluation import canary_scoring, general_text, intervals, metrics, scoring
from labsupport.format_runs import prompt_formats
from labsupport.tasks import canary, general, tickets

WORDING, SHOTS = "values and form", {"zero_shot": 0, "few_shot": 8, "retrieved": 4}  # where nothing is tuned
WRITTEN = 16  # replies written out for each set
BATCH = 8  # rows scored at once


def spread(rows: list, count: int) -> list:
    """At most so many of the rows, at equal distances."""
    return rows if count >= len(rows) else prompt_formats.spread(rows, count)


def test_sets(profile: Profile) -> dict[str, list[dict]]:
    """One row of each family of test_lookalike, and test_production, as many as the profile scores."""
    families = tickets.one_of_each_family(tickets.load("test_lookalike"))
    return {
        "test_lookalike": spread(families, profile.eval_families),
        "test_production": spread(tickets.load("test_production"), profile.eval_rows),
    }


def scored(model, tokenizer, rows: list[dict]) -> dict:
    """Forced scores of the right answers to the task's own prompt."""
    return summary(rows, scoring.score(model, tokenizer, rows, BATCH))


def prompted(
    model, tokenizer, method: str, rows: list[dict], wording: str, examples: int, constrained: bool = False
) -> dict:
    """The same under a baseline's prompt. method: "zero_shot", "few_shot" or "retrieved"."""
    from labsupport.baselines import comparisons, prompt_scoring, prompting

    train = tickets.load("train")[: comparisons.TRAIN_ROWS]
    prompts = prompting.prompts(tokenizer, method, train, rows, wording, examples)
    scores = prompt_scoring.score(model, tokenizer, rows, prompts, constrained, BATCH)
    found = summary(rows, scores) | {"wording": wording, "examples": examples}
    if constrained:
        right = [float(score["constrained"]["exact"]) for score in scores]
        found["constrained_exact_share"] = of_families(right, rows)
    return found


def summary(rows: list[dict], scores: list[dict]) -> dict:
    """Of each row `id`, `exact` (0 or 1) and `nll` (nats an answer, by field); the mean of both over rows
    with its 95 % interval over families: `exact_share`, `nats`."""
    exact = [float(score["exact"]) for score in scores]
    nll = {part: [round(score["nll"][part], 3) for score in scores] for part in ("all", *tickets.FIELDS)}
    return {
        "exact_share": of_families(exact, rows),
        "nats": of_families(nll["all"], rows),
        "id": [row["id"] for row in rows],
        "exact": [int(value) for value in exact],
        "nll": nll,
    }


def of_families(values: list[float], rows: list[dict]) -> list[float]:
    """[mean, low, high] with families drawn."""
    return [round(value, 4) for value in intervals.interval(values, [row["family"] for row in rows])]


def replies(model, tokenizer, rows: list[dict]) -> dict:
    """A few rows answered in writing: the replies, and how many are valid and right."""
    rows = spread(rows, WRITTEN)
    written = scoring.generate(model, tokenizer, rows)
    return {
        "id": [row["id"] for row in rows],
        "reply": written,
        "valid": int(metrics.valid_json(written).sum()),
        "right": int(metrics.exact_match(rows, written).sum()),
    }


def passages(profile: Profile) -> list[dict]:
    """The passages of general text that are scored, as many as the profile scores rows."""
    return spread(general_text.held_out(general.load())[0], profile.eval_rows)


def forgotten(model, tokenizer, rows: list[dict]) -> dict:
    """NLL a token (nats) of general text without and with the adapters, and KL(without ‖ with) a token; the
    latter of each passage, too. model: a PeftModel. One passage at a time: its logits may take 0.3 GB."""
    columns: dict[str, list] = {name: [] for name in ("id", "tokens", "nll_before", "nll_after", "kl")}
    for row in rows:
        with model.disable_adapter():
            reference = general_text.logits(model, tokenizer, [row])
            before = general_text.compared(model, tokenizer, [row], reference)[0]
        after = general_text.compared(model, tokenizer, [row], reference)[0]
        values = (row["id"], after["tokens"], before["nll"], after["nll"], after["kl"])
        for column, value in zip(columns.values(), values, strict=True):
            column.append(round(value, 4) if isinstance(value, float) else value)
    tokens = sum(columns["tokens"])
    totals = {name: sum(columns[name]) / tokens for name in ("nll_before", "nll_after", "kl")}
    return {f"{name}_a_token": round(value, 5) for name, value in totals.items()} | columns


def canary_right(model, tokenizer, profile: Profile) -> dict:
    """The canary's questions without and with the adapters: which were answered right (0 or 1)."""
    questions = spread(canary.load(), profile.eval_rows)

    def right() -> list[int]:
        return [int(found["right"]) for found in canary_scoring.score(model, tokenizer, questions)]

    with model.disable_adapter():
        before = right()
    return {"id": [row["id"] for row in questions], "before": before, "after": right()}
