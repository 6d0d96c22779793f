"""Settings and rows as the checks of settings and resources see them, without a tokenizer."""

from __future__ import annotations

from pathlib import Path

from clean_rows import clean_rows

from labsupport.findings.check import Run, View
from labsupport.findings.finding import gathered
from labsupport.settings_checks import recipe, recipe_checks, resource_checks
from labsupport.training_data.record import Record

FIXTURES = Path(__file__).parent / "preflight_fixtures"


def findings_in(settings, rows=120, tokens=160, form="prompt_completion", raw=None, resources=False, **about):
    """(findings by rule, the run) for settings and so many rows of so many tokens (0: no tokenizer). about:
    fields of the run; resources: look at memory, time and money, too."""
    read = settings if isinstance(settings, recipe.Recipe) else recipe.read(settings)
    run = Run(Path("garden.jsonl"), form, recipe=read, model=read.get("model_name_or_path"))
    run.tokenizer = object() if resources and tokens else None
    for name, value in about.items():
        setattr(run, name, value)
    modules = (recipe_checks, resource_checks) if resources else (recipe_checks,)
    checks = [kind(run) for module in modules for kind in module.CHECKS]
    found = {}
    for index, row in enumerate(clean_rows(min(rows, 60)) * -(-rows // 60)):
        if index == rows:
            break
        run.rows += 1
        text = row["prompt"][0]["content"] if form == "text" else None
        messages = [] if form == "text" else row["prompt"] + row["completion"]
        start = 1 if form == "prompt_completion" else None
        record = Record(run.rows, f"line {run.rows}", form, raw or row, messages, text, start)
        view = View([0] * tokens, [False] * (tokens // 2) + [True] * (tokens - tokens // 2), tokens, [])
        for check in checks:
            gathered(found, check.see(record))
        if not tokens:
            continue
        run.sampled += 1
        run.tokens += tokens
        run.trained += sum(view.trained)
        run.longest = tokens
        for check in checks:
            gathered(found, check.see_tokens(record, view))
    for check in checks:
        gathered(found, check.end())
    return found, run


def written(folder: Path, text: str, name: str = "recipe.yaml") -> Path:
    """A file with settings."""
    path = folder / name
    path.write_text(text)
    return path
