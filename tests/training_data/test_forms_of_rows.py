"""Which form rows have, and rows as records: what people post, rows that do not fit, names of columns."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labsupport.core.files import LabError
from labsupport.tasks import tickets
from labsupport.training_data.forms import find_form, to_record

ASKED, ANSWERED = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
CHAT = [ASKED, ANSWERED]
SHARED = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]


def record_of(row, *others, **columns):
    form = find_form([row, *others], **columns)
    return to_record(7, "line 9", row, form)


@pytest.mark.parametrize(
    ("row", "form", "begins", "chat"),
    [
        ({"messages": CHAT}, "messages", None, True),
        ({"messages": CHAT, "tools": [{"type": "function"}]}, "messages", None, True),
        ({"messages": json.dumps(CHAT)}, "messages", None, True),
        ({"messages": str(CHAT)}, "messages", None, True),
        ({"prompt": "q", "completion": "a"}, "prompt_completion", 1, False),
        ({"prompt": [ASKED], "completion": [ANSWERED]}, "prompt_completion", 1, True),
        ({"prompt": json.dumps([ASKED]), "completion": json.dumps([ANSWERED])}, "prompt_completion", 1, True),
        ({"instruction": "q", "input": "", "output": "a"}, "alpaca", 1, True),
        ({"instruction": "q", "output": "a"}, "alpaca", 1, True),
        ({"instruction": "q", "context": None, "response": "a", "category": "x"}, "alpaca", 1, True),
        ({"conversations": SHARED, "id": "x"}, "sharegpt", None, True),
        ({"conversations": CHAT}, "sharegpt", None, True),
        ({"messages": SHARED}, "sharegpt", None, True),
        ({"dialog": SHARED}, "sharegpt", None, True),
        ({"question": "q", "answer": "a", "source": "web"}, "prompt_completion", 1, True),
        ({"Question": "q", "Answer": "a"}, "prompt_completion", 1, True),
        ({"customer_message": "q", "agent_reply": "a", "ticket": "7"}, "prompt_completion", 1, True),
        ({"customer": "Bo", "query": "q", "response": "a", "agent": "Al"}, "prompt_completion", 1, True),
    ],
)
def test_the_same_two_turns_in_every_form(row, form, begins, chat):
    record = record_of(row)
    assert (record.form, record.completion_from, record.chat) == (form, begins, chat)
    assert (record.messages, record.faults) == (CHAT, [])
    assert (record.number, record.where) == (7, "line 9")


def test_alpaca_with_input_and_system():
    row = {"instruction": "Sum up.", "input": "A long text.", "output": "Short.", "system": "Be brief."}
    record = record_of(row)
    assert [message["role"] for message in record.messages] == ["system", "user", "assistant"]
    assert record.messages[1]["content"] == "Sum up.\n\nA long text."
    assert record.completion_from == 2


def test_text_is_what_trl_takes_even_beside_other_columns():
    row = {"text": "Below is ...", "instruction": "q", "output": "a"}
    assert record_of(row).text == "Below is ..."
    assert "Trained on is 'text' alone" in " ".join(find_form([row]).said)


def test_roles_of_other_programs():
    turns = [("system", "s"), ("human", "q"), ("gpt", "a"), ("observation", "o"), ("narrator", "n")]
    record = record_of({"conversations": [{"from": role, "value": text} for role, text in turns]})
    roles = [message["role"] for message in record.messages]
    assert roles == ["system", "user", "assistant", "tool", "narrator"]


def test_contents_in_parts_and_calls_without_content():
    calls = [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    turns = [{"role": "user", "content": parts}, {"role": "assistant", "content": None, "tool_calls": calls}]
    record = record_of({"messages": turns})
    assert record.faults == []
    assert record.messages == [{"role": "user", "content": "ab"}, {"role": "assistant", "tool_calls": calls}]


def test_llama_factorys_parts_are_read():
    parts = [{"type": "text", "value": "a"}, {"type": "text", "value": "b"}]
    record = record_of({"messages": [{"role": "user", "content": parts}, ANSWERED]})
    assert record.faults == [] and record.messages[0]["content"] == "ab"


def test_a_context_belongs_to_the_question_in_rows_that_have_one():
    rows = [{"question": "How many?", "context": "CREATE TABLE t (n)", "answer": "SELECT COUNT(*)"}]
    rows += [{"question": "Why?", "context": None, "answer": "So."}] * 5
    form = find_form(rows)
    first, other = (to_record(1, "line 1", row, form) for row in rows[:2])
    assert first.prompt == "How many?\n\nCREATE TABLE t (n)" and other.prompt == "Why?"
    assert "'question' and 'context' are read as the user's message" in form.said[0]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"messages": [ASKED, ANSWERED | {"weight": 0}]}, "does not read the messages' weight"),
        ({"messages": CHAT, "system": "Be brief."}, "leaves out a system prompt beside the messages"),
        ({"text": "Fine.", "label": 1}, "Trained on is 'text' alone"),
    ],
)
def test_what_trl_leaves_out_is_said(row, said):
    assert said in " ".join(find_form([row]).said)


def test_preferences_without_a_prompt_are_told_what_to_do():
    with pytest.raises(LabError, match="For SFT, rename chosen to messages"):
        find_form([{"chosen": CHAT, "rejected": CHAT}])


def test_nulls_that_parquet_fills_in_are_no_keys():
    record = record_of({"messages": [ASKED | {"name": None}, ANSWERED | {"tool_calls": None}]})
    assert record.messages == CHAT


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"other": 1}, "messages is missing (the row has other)"),
        ({"messages": None}, "messages is null"),
        ({"messages": float("nan")}, "messages is NaN"),
        ({"messages": []}, "messages is an empty list"),
        ({"messages": "hello"}, "messages is a text and no list of messages"),
        ({"messages": {"role": "user"}}, "messages is an object and no list of messages"),
        ({"messages": [ASKED, "a"]}, "message 2 of messages is a text and no object"),
        ({"messages": [ASKED, {"role": "assistant"}]}, "message 2 of messages has no content"),
        ({"messages": [{"content": "q"}]}, "message 1 of messages has no role"),
        ({"messages": [{"role": None, "content": "q"}]}, "message 1 of messages has role null and no text"),
        ({"messages": [ASKED | {"content": None}]}, "message 1 of messages has content null and no text"),
        ({"messages": [ASKED | {"content": {"a": 1}}]}, "message 1 of messages has content an object"),
        (
            {"messages": [ASKED | {"content": [{"type": "image_url"}]}]},
            "has a part that is no text (image_url)",
        ),
    ],
)
def test_a_row_that_does_not_fit_says_why(row, fault):
    record = to_record(1, "line 1", row, find_form([{"messages": CHAT}]))
    assert fault in record.faults[0]


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"prompt": "q"}, "completion is missing"),
        ({"prompt": "q", "completion": 7}, "completion is a number and no text"),
        ({"prompt": "q", "completion": [ANSWERED]}, "completion is a list and no text"),
    ],
)
def test_a_pair_that_does_not_fit_says_why(row, fault):
    record = to_record(1, "line 1", row, find_form([{"prompt": "q", "completion": "a"}]))
    assert fault in record.faults[0]


def test_a_row_of_another_form_is_read_as_that():
    form = find_form([{"messages": CHAT}] * 3)
    record = to_record(4, "line 4", {"conversations": SHARED}, form)
    assert (record.form, record.messages, record.faults) == ("sharegpt", CHAT, [])


def test_an_answer_that_is_json_stays_a_text():
    answer = '[{"role": "admin", "content": "none"}]'
    record = record_of({"prompt": "Who may? As JSON.", "completion": answer})
    assert (record.chat, record.answers, record.faults) == (False, [answer], [])


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"foo": "q", "bar": "a"}, "columns foo, bar, which no known form has: rename them"),
        ({"problem": "q", "solution": "a", "answer": "4"}, "which of problem, solution, answer are meant"),
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, "that is data for DPO"),
        ({"from": "human", "value": "q"}, "each row is a message. A row is a conversation"),
        ({"input_ids": [1, 2]}, "turned into tokens already"),
        ({"a\nb\ud83d": "q"}, "columns a b\\ud83d, which no known form has"),
        ({}, "rows without any column"),
    ],
)
def test_unknown_columns_are_listed_with_what_to_do(row, said):
    with pytest.raises(LabError) as error:
        find_form([row], name="a.csv")
    assert str(error.value).startswith("a.csv ") and said in str(error.value)
    assert "\n" not in str(error.value)


def test_named_columns():
    row = {"foo": "q", "bar": "a", "prompt": "x", "completion": "y"}
    record = record_of(row, prompt_column="foo", completion_column="bar")
    assert (record.messages, record.completion_from, record.chat) == (CHAT, 1, True)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"prompt_column": "foo"}, "Give both"),
        (
            {"prompt_column": "foo", "completion_column": "baz"},
            "no column 'baz'. .*nearest first: bar",
        ),
        ({"prompt_column": "foo", "completion_column": "foo"}, "are both 'foo'"),
    ],
)
def test_named_columns_that_are_wrong(columns, said):
    with pytest.raises(LabError, match=said):
        find_form([{"foo": "q", "bar": "a"}], **columns)


def test_columns_that_go_unused_are_said():
    assert "Not trained on: source." in find_form([{"messages": CHAT, "source": "web"}]).said
    assert find_form([{"messages": CHAT}]).said == ()


def test_the_courses_own_rows_are_read_without_a_word():
    rows = tickets.as_prompt_completion(tickets.load("validation"))
    form = find_form(rows[:50])
    records = [to_record(i, f"line {i}", row, form) for i, row in enumerate(rows, start=1)]
    assert form.said == ()
    assert not any(record.faults for record in records)
    assert {(record.form, record.completion_from, record.chat) for record in records} == {
        ("prompt_completion", 2, True)
    }


KEYS = st.sampled_from(
    ["messages", "prompt", "completion", "text", "conversations", "instruction", "output", "role", "content",
     "from", "value", "type", "tool_calls", "x"]
)  # fmt: skip
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)
KNOWN = [
    {"messages": CHAT},
    {"prompt": "q", "completion": "a"},
    {"text": "t"},
    {"instruction": "q", "output": "a"},
    {"conversations": SHARED},
    {"question": "q", "answer": "a"},
]


@settings(max_examples=300)
@given(st.dictionaries(KEYS, ANYTHING, max_size=4), st.sampled_from(KNOWN))
def test_no_row_raises_and_all_records_are_whole(row, first):
    record = to_record(1, "line 1", row, find_form([first]))
    assert all(isinstance(message["role"], str) for message in record.messages)
    assert isinstance(record.whole, str) and isinstance(record.prompt, str)
    assert record.faults or record.messages or record.text is not None
