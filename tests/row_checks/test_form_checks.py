"""Columns that TRL does not read, or reads as something else."""

import copy

import pytest
from clean_rows import clean_rows
from seen_rows import findings, fixture, settings

from labsupport.row_checks import form_checks


@pytest.mark.parametrize("rule", form_checks.RULES, ids=lambda rule: rule.id)
def test_a_fixture_breaks_its_rule_alone_and_once(rule):
    found = findings([form_checks], fixture(rule.id))
    assert [(name, finding.count) for name, finding in found.items()] == [(rule.id, 1)]
    assert found[rule.id].evidence[0].text.startswith("columns: ")


def test_columns_that_trl_knows_are_no_finding():
    rows = clean_rows(20)
    as_messages = [{"messages": row["prompt"] + row["completion"], "source": "[x]"} for row in rows]
    as_strings = [{"prompt": "[a]", "completion": row["completion"][0]["content"]} for row in rows]
    as_text = [{"text": row["completion"][0]["content"]} for row in rows]
    for form in (rows, as_messages, as_strings, as_text):
        assert findings([form_checks], form) == {}


def test_other_names_for_prompt_and_completion_are_told():
    rows = [{"question": f"{n} + 1?", "answer": str(n + 1)} for n in range(20)]
    assert list(findings([form_checks], rows)) == ["form-not-of-trl"]


def of_sharegpt(user, assistant, column="conversations", said="Hi", **beside):
    turns = [{"from": user, "value": said}, {"from": assistant, "value": "Hello."}]
    return [{column: turns, **beside}] * 20


@pytest.mark.parametrize(
    "rows, told",
    [
        (of_sharegpt("user", "assistant"), []),
        (of_sharegpt("user", "assistant", system=""), []),
        (of_sharegpt("user", "assistant", system=float("nan")), []),
        (of_sharegpt("user", "assistant", prompt="Hi"), ["form-not-of-trl"]),
        (of_sharegpt("user", "assistant", said=["Hi"]), ["form-not-of-trl"]),
        (of_sharegpt("human", "gpt"), ["form-not-of-trl"]),
        (of_sharegpt("User", "assistant"), ["form-not-of-trl"]),
        (of_sharegpt("user", "assistant", system="Be brief."), ["form-not-of-trl"]),
        (of_sharegpt("user", "assistant", column="chat"), ["form-not-of-trl"]),
    ],
)
def test_what_trl_makes_of_from_and_value_is_told(rows, told):
    assert list(findings([form_checks], rows)) == told


def test_with_a_loss_on_answers_alone_trl_stops_before_it_converts():
    masked = settings(assistant_only_loss=True)
    rows = of_sharegpt("user", "assistant")
    assert list(findings([form_checks], rows, None, masked)) == ["form-not-of-trl"]


@pytest.mark.parametrize("rows", [of_sharegpt("user", "assistant"), of_sharegpt("human", "gpt")])
def test_trl_renames_keys_and_keeps_roles(rows):
    """What the test above takes for granted."""
    from trl.data_utils import is_conversational_from_value, maybe_convert_to_chatml

    row = copy.deepcopy(rows[0])
    assert is_conversational_from_value(row)
    turns = rows[0]["conversations"]
    made = [{"role": turn["from"], "content": turn["value"]} for turn in turns]
    assert maybe_convert_to_chatml(row) == {"messages": made}


def in_parts(key):
    return [{"messages": [{"role": role, "content": [{"type": "text", key: "Hi"}]} for role in SIDES]}] * 20


SIDES = ("user", "assistant")
OF_IMAGES_TOO = "{% for m in messages %}{% for part in m.content %}{{ part.text }}{% endfor %}{% endfor %}"


@pytest.mark.parametrize("key", ["text", "value"])
def test_content_in_parts_is_told_where_the_template_wants_one_text(key, tokenizer):
    assert list(findings([form_checks], in_parts(key), tokenizer)) == ["content-in-parts"]


def test_a_template_that_takes_parts_is_given_them(tokenizer):
    own = copy.deepcopy(tokenizer)
    own.chat_template = OF_IMAGES_TOO
    assert findings([form_checks], in_parts("text"), own) == {}


def test_a_column_without_a_name_is_shown():
    rows = [{"": n, "question": f"{n} + 1?", "answer": str(n + 1)} for n in range(20)]
    (evidence,) = findings([form_checks], rows)["form-not-of-trl"].evidence
    assert evidence.text == "columns: (a column without a name), question, answer"
