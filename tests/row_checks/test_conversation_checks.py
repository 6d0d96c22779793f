"""Who speaks when: each fixture breaks its rule alone, and conversations as people have them break none."""

import pytest
from seen_rows import findings, fixture

from labsupport.row_checks import conversation_checks
from labsupport.token_checks import template_checks, token_checks

MODULES = (conversation_checks, template_checks, token_checks)
CALL = [{"id": "a", "type": "function", "function": {"name": "clock", "arguments": {}}}]


@pytest.mark.parametrize("rule", [rule.id for rule in conversation_checks.RULES])
def test_a_fixture_breaks_its_rule_alone(rule, tokenizer):
    found = findings(MODULES, fixture(rule), tokenizer)
    assert list(found) == [rule]
    assert 1 <= found[rule].count <= 3 and found[rule].evidence[0].number > 1


def turns(*said) -> dict:
    return {"messages": [{"role": role, "content": content} for role, content in said]}


def with_calls(*messages) -> dict:
    return {"messages": [{"role": "user", "content": "When is it where?"}, *messages]}


def call(*ids) -> dict:
    return {"role": "assistant", "content": "", "tool_calls": [dict(CALL[0], id=i) for i in ids]}


def result(of=None) -> dict:
    return {"role": "tool", "content": "12:00"} | ({"tool_call_id": of} if of else {})


ANSWER = {"role": "assistant", "content": "Noon."}
IN_WORDS = {"role": "assistant", "content": '<tool_call>{"name": "clock"}</tool_call>'}
AGAIN = (("user", "And?"), ("assistant", "Hello again."))


@pytest.mark.parametrize(
    "row",
    [
        turns(("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello.")),
        turns(
            ("developer", "Be brief."),
            ("user", "Hi"),
            ("assistant", "Hello."),
            ("user", "?"),
            ("assistant", "!"),
        ),
        turns(("user", "你好"), ("assistant", "您好！有什么可以帮您？")),
        turns(("user", "Summarise the chat.\nUser: Hi\nAssistant: Hello"), ("assistant", "They greet.")),
        turns(("user", "Write a dialogue."), ("assistant", "User: Hi\nAssistant: Hello.\nUser: Bye")),
        turns(("user", "Create a simple chatbot."), ("assistant", "User: Hello\nBot: Hi there!\nUser: Bye")),
        turns(("user", "Explain RACI"), ("assistant", "Responsible: who does it\nUser: who uses it")),
        with_calls(call("a"), result("a"), ANSWER),
        with_calls(call("a", "b"), result("b"), result("a"), ANSWER),
        with_calls(call("a", "b"), result(), ANSWER),
        with_calls(call("a")),
        with_calls(
            {"role": "assistant", "content": '<tool_call>{"name": "clock"}</tool_call>'}, result(), ANSWER
        ),
        {"prompt": "", "completion": "A text without a question."},
    ],
)
def test_these_are_fine(row):
    assert findings([conversation_checks], [row]) == {}


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        (turns(("user", "Hi"), ("assistant", "")), "empty-turn"),
        (turns(("user", "Hi"), ("assistant", "Hello.\nHuman: Bye\nAssistant: Bye.")), "dialogue-in-turn"),
        (
            turns(("system", "A"), ("system", "B"), ("user", "Hi"), ("assistant", "Hello.")),
            "system-not-first",
        ),
        (with_calls(call("a", "b"), result("a"), ANSWER), "tool-call-without-result"),
        (with_calls(ANSWER, result(), ANSWER), "tool-result-without-call"),
        ({"text": " \n"}, "empty-turn"),
    ],
)
def test_these_are_not(row, rule):
    assert list(findings([conversation_checks], [row])) == [rule]


def test_a_call_without_a_result_is_told_once():
    assert list(findings([conversation_checks], [with_calls(call("a"), ANSWER)] * 5)) == [
        "tool-call-without-result"
    ]


def test_without_a_model_the_courses_template_is_no_judge_of_tools(tokenizer):
    row = with_calls({"role": "assistant", "content": None, "tool_calls": CALL}, result("a"), ANSWER)
    assert findings([template_checks], [row], tokenizer) == {}
    assert list(findings([template_checks], [row], tokenizer, model="mine")) == ["template-refuses-row"]


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("chat_template_kwargs", [{"enable_thinking": False}, None], "chat_template_kwargs is null"),
        ("tools", ['[{"type": "function"}]', ""], "tools is '' and no JSON"),
        ("tools", ["[]", "[{'type': 'function'}]"], "and no JSON: write []"),
    ],
)
def test_columns_beside_the_messages_at_which_the_trainer_stops(column, values, said):
    row = turns(("user", "Hi"), ("assistant", "Hello."))
    rows = [row | {column: value} for value in values]
    found = findings((conversation_checks,), rows)
    (evidence,) = found["unreadable-row"].evidence
    assert said in evidence.text and evidence.number == 2
    assert findings((conversation_checks,), [row, row]) == {}
    assert findings((conversation_checks,), rows[:1] * 2 + [row] * (column == "tools")) == {}
