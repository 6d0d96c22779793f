"""Rows as records, and what checks say of them: for the tests of single subjects of `preflight`."""

import json
from pathlib import Path

from labsupport.findings.check import Run
from labsupport.findings.finding import gathered
from labsupport.settings_checks.recipe import Recipe
from labsupport.token_checks.trainer_view import views
from labsupport.training_data.forms import find_form, to_record
from labsupport.training_data.record import Record

FIXTURES = Path(__file__).parent / "preflight_fixtures"


def settings(**given) -> Recipe:
    """TRL's settings with some changed."""
    return Recipe(Path("recipe.yaml"), given)


def fixture(name: str) -> list[dict]:
    """The rows of a fixture."""
    return [json.loads(line) for line in (FIXTURES / f"{name}.jsonl").read_text("utf-8").splitlines()]


def records(rows: list[dict]) -> list[Record]:
    """The rows as records."""
    form = find_form(rows)
    return [to_record(number, f"line {number}", row, form) for number, row in enumerate(rows, start=1)]


def findings(modules, rows, tokenizer=None, recipe=None, model=None) -> dict:
    """What all checks of the modules find in rows, by rule."""
    seen = records(rows)
    run = Run(Path("rows.jsonl"), find_form(rows).name, recipe=recipe, tokenizer=tokenizer, model=model)
    checks = [kind(run) for module in modules for kind in module.CHECKS]
    found = {}
    for one in seen:
        run.rows += 1
        for check in checks:
            gathered(found, check.see(one))
    if tokenizer is not None:
        for one, view in zip(seen, views(seen, tokenizer, recipe), strict=True):
            if view is None:
                continue
            run.sampled += 1
            run.tokens += len(view.ids)
            run.trained += sum(view.trained)
            run.longest = max(run.longest, view.full_length)
            for check in checks:
                gathered(found, check.see_tokens(one, view))
    for check in checks:
        gathered(found, check.end())
    return found
