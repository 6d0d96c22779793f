"""Columns that TRL does not read, or reads as something else."""

import pytest
from clean_rows import clean_rows
from seen_rows import findings, fixture

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
