"""Each rule has a fixture, which breaks that rule alone; told by the command as it is typed."""

import re

import pytest
from clean_rows import clean_rows, row_of
from fixture_cases import CASES
from preflight_typed import flat, ids, written
from seen_rows import FIXTURES

from labsupport.findings.finding import SEVERITIES
from labsupport.preflight import runner

RULES = [rule.id for rule in runner.rules()]


def messages():
    return [{"messages": row["prompt"] + row["completion"]} for row in clean_rows(120)]


def texts():
    return [{"text": f"{asked} {answered}"} for asked, answered in flat(clean_rows(120))]


def one_of_9000_tokens():
    rows = clean_rows(120)
    answers = [answered for _, answered in flat(clean_rows(170, seed=1))]
    return [*rows, row_of("Everything you told us so far, please.", "\n\n".join(answers))]


# For settings that are no fault with 120 rows of prompt and completion.
ROWS = {
    "completion-only-loss-ignored": messages,
    "text-field-missing": texts,
    "longer-than-context": one_of_9000_tokens,
    "batch-large": lambda: clean_rows(4000),
}
# For rows that are no fault without settings.
SETTINGS = {
    "few-packed-steps": "packing: true\nmax_length: 512\nper_device_train_batch_size: 1\nnum_train_epochs: 2",
    "pad-is-eos": "training:\n  per_device_train_batch_size: 1\n",
}
OPTIONS = {
    "no-bf16-on-card": ("--gpu", "t4"),
    "evaluation-never-runs": ("--eval", "EVALUATION"),
    "memory-does-not-fit": ("--gpu", "l4"),
    "time-and-money": ("--gpu", "l4", "--rate", "0.8"),
    "template-skipped": ("--model", "smollm2-135m-instruct"),
}


def words_for(rule: str, folder, tokenizer) -> list:
    """What is typed so that the fixture's fault can be seen."""
    own = FIXTURES / f"{rule}.jsonl"
    words = [own] if own.exists() else [written(folder / "rows.jsonl", ROWS.get(rule, default_rows)())]
    if (settings := FIXTURES / f"{rule}.yaml").exists():
        words += ["--config", settings]
    if rule in SETTINGS:
        (folder / "settings.yaml").write_text(SETTINGS[rule])
        words += ["--config", folder / "settings.yaml"]
    if (evaluation := FIXTURES / f"{rule}.eval.jsonl").exists():
        words += ["--eval", evaluation]
    if "tokenizer" in CASES.get(rule, {}):
        CASES[rule]["tokenizer"](tokenizer).save_pretrained(folder / "model")
        words += ["--model", folder / "model"]
    evaluation = written(folder / "evaluation.jsonl", clean_rows(60, seed=9))
    return words + [evaluation if word == "EVALUATION" else word for word in OPTIONS.get(rule, ())]


def default_rows():
    return clean_rows(120)


@pytest.mark.parametrize("rule", RULES)
def test_a_fixture_breaks_its_rule_and_no_other(rule, capsys, tmp_path, tokenizer):
    assert ids(capsys, *words_for(rule, tmp_path, tokenizer)) == [rule]


def test_there_is_no_fixture_without_a_rule():
    names = {path.name.split(".")[0] for path in FIXTURES.iterdir()}
    assert {name for name in names if not name.startswith("clean-")} == set(RULES)


def test_rules_have_names_of_their_own():
    assert len(set(RULES)) == len(RULES)


@pytest.mark.parametrize("rule", runner.rules(), ids=RULES)
def test_a_rule_says_why_in_a_sentence_and_what_to_do_in_a_line(rule):
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", rule.id) and rule.severity in SEVERITIES
    assert rule.why.endswith(".") and not re.search(r"[.!?]\s", rule.why)
    assert rule.fix.endswith(".") and "\n" not in rule.fix and len(rule.fix) <= 120
