"""What the model is fed: each fixture breaks its rule alone, and clean rows break none."""

import copy

import pytest
from clean_rows import clean_rows
from fixture_cases import CASES, adding_bos, of
from seen_rows import findings, fixture, settings

from labsupport.chat_formats import templates
from labsupport.row_checks import conversation_checks
from labsupport.tasks import tickets
from labsupport.token_checks import template_checks, token_checks

MODULES = (conversation_checks, template_checks, token_checks)
RULES = [rule.id for rule in (*template_checks.RULES, *token_checks.RULES)]


def seen(rows, tokenizer, case):
    """What the checks find in this case."""
    own = case.get("tokenizer", lambda same: same)(tokenizer)
    return findings(MODULES, rows, own, case.get("recipe"), case.get("model"))


@pytest.mark.parametrize("rule", RULES)
def test_a_fixture_breaks_its_rule_alone(rule, tokenizer):
    assert list(seen(fixture(rule), tokenizer, CASES.get(rule, {}))) == [rule]


@pytest.mark.parametrize("name", [None, "chatml", "llama-3.1", "qwen2.5", "qwen3", "gemma-2", "mistral-v0.3"])
@pytest.mark.parametrize("recipe", [None, settings()])
def test_clean_rows_break_none_under_any_template(name, recipe, tokenizer):
    case = {"tokenizer": of(name)} if name else {}
    case["recipe"] = recipe
    assert seen(clean_rows(60, seed=5), tokenizer, case | {"model": "a-chat-model"}) == {}


def test_the_courses_tickets_break_none(tokenizer):
    rows = tickets.as_prompt_completion(tickets.load("train"))
    assert seen(rows, tokenizer, {"model": "the-courses"}) == {}


def test_messages_train_on_the_prompt_unless_the_settings_say_otherwise(tokenizer):
    rows = fixture("whole-conversation-in-loss")
    masked = settings(assistant_only_loss=True)
    own = templates.tokenizer_with(tokenizer, "qwen3")
    assert list(seen(rows, tokenizer, {"recipe": settings()})) == ["prompt-in-loss"]
    assert seen(rows, own, {"recipe": masked}) == {}


def test_rendered_text_breaks_three_rules_at_once(tokenizer):
    own = adding_bos(tokenizer)
    own.chat_template = "{{ bos_token }}" + own.chat_template
    rows = [
        {"text": own.apply_chat_template(row["prompt"] + row["completion"], tokenize=False)}
        for row in clean_rows(5)
    ]
    found = seen(rows, own, {"model": "a-chat-model"})
    assert set(found) == {"double-bos", "double-eos", "prompt-in-loss"}
    assert [text for text, _ in found["double-bos"].evidence[0].tokens[:2]] == ["<|endoftext|>"] * 2
    assert [text for text, _ in found["double-eos"].evidence[0].tokens[-3:]] == [
        "<|im_end|>",
        "\n",
        "<|im_end|>",
    ]


def test_llamas_text_begins_twice_though_no_model_is_named(tokenizer):
    llama = templates.tokenizer_with(tokenizer, "llama-3.1")
    text = llama.apply_chat_template(
        clean_rows(1)[0]["prompt"] + clean_rows(1)[0]["completion"], tokenize=False
    )
    assert set(seen([{"text": text}], tokenizer, {})) == {"double-bos", "prompt-in-loss"}


def test_evidence_shows_what_is_trained(tokenizer):
    (one,) = seen(fixture("answer-truncated"), tokenizer, {}).values()
    tokens = one.evidence[0].tokens
    assert len(tokens) == 40 and all(trained for _, trained in tokens)


def test_an_end_outside_the_markers_is_not_trained(tokenizer):
    own = copy.deepcopy(tokenizer)
    own.chat_template = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}"
        "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}"
        "{% else %}{{ m.content }}{% endif %}{{ '<|im_end|>\\n' }}{% endfor %}"
    )
    rows = fixture("whole-conversation-in-loss")
    assert list(seen(rows, own, {"recipe": settings(assistant_only_loss=True)})) == ["end-not-trained"]


@pytest.mark.parametrize(
    "content",
    [
        "In HTML <s>old</s> is struck through: <s>was 9</s>",
        "Run `tool <filename>`, then [INST] stays as it is.",
        "# Steps\n\n### Instruction\nDo it.\n\n### Result\nDone.",
        "if a < b | c > d: x <| f |> y",
    ],
)
def test_contents_that_only_look_like_marks(content, tokenizer):
    rows = clean_rows(5)
    rows[3]["completion"][0]["content"] = content
    assert seen(rows, tokenizer, {"model": "a-chat-model"}) == {}


def test_without_a_model_the_courses_tokens_do_not_cut_off_other_scripts(tokenizer):
    rows = [
        {
            "messages": [
                {"role": "user", "content": "?"},
                {"role": "assistant", "content": "今天天气很好。" * 120},
            ]
        }
    ]
    assert "answer-truncated" not in seen(rows, tokenizer, {})  # 840 characters, 1,600 of the course's tokens
    assert "answer-truncated" in seen(rows, tokenizer, {"model": "a-chat-model"})


@pytest.mark.parametrize(
    ("wrapped", "name"),
    [
        ("<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>", "Llama 3"),
        ("<start_of_turn>user\nHi<end_of_turn>", "Gemma"),
        ("### Instruction:\nHi\n\n### Response:", "Alpaca"),
        ("<|user|>\nHi<|end|>", "Phi or Zephyr"),
    ],
)
def test_other_models_marks_are_named(wrapped, name, tokenizer):
    rows = clean_rows(5)
    rows[3]["prompt"][0]["content"] = wrapped
    found = seen(rows, tokenizer, {})
    assert list(found) == ["other-template"] and name in found["other-template"].evidence[0].text


# ---------------------------------------------------------------- what a template refuses


def tool_row(calls: int, **more) -> dict:
    """A row that ends with so many calls in one turn, of which Llama 3.1's template takes one."""
    one = {"type": "function", "function": {"name": "clock", "arguments": {"place": "here"}}}
    answer = {"role": "assistant", "content": "", "tool_calls": [one] * calls} | more
    return {"messages": [{"role": "user", "content": "When is it there?"}, answer]}


@pytest.mark.parametrize("several_first", [False, True])
def test_a_template_that_takes_one_call_a_turn_refuses_the_rows_with_two_alone(several_first, tokenizer):
    own = templates.tokenizer_with(tokenizer, "llama-3.1")
    rows = [tool_row(1)] * 5 + [tool_row(2)] * 3
    rows = rows[::-1] if several_first else rows
    found = seen(rows, own, {"model": "a-chat-model"})["template-refuses-row"]
    assert found.count == 3 and found.evidence[0].number == (1 if several_first else 6)
    thought = tool_row(2, reasoning_content="Two places.")
    assert "template-refuses-row" in seen([tool_row(1), thought], own, {"model": "a-chat-model"})


@pytest.mark.parametrize(
    ("template", "arguments", "told"),
    [
        ("qwen2.5", '{"place": "Köln"}', True),
        ("llama-3.1", "{}", True),
        ("qwen2.5", {"place": "Köln"}, False),
        ("qwen3", '{"place": "Köln"}', False),  # writes a text as it stands
        ("qwen2.5", "Köln", False),  # is no JSON
        ("qwen3", "{}", False),  # and the user's text has it in quotation marks
    ],
)
def test_arguments_that_are_json_in_a_text(template, arguments, told, tokenizer):
    row = tool_row(1)
    call = {"type": "function", "function": {"name": "clock", "arguments": arguments}}
    row["messages"][1]["tool_calls"] = [call]
    row["messages"][0]["content"] += ' What is "{}" there?'
    found = seen([row], templates.tokenizer_with(tokenizer, template), {"model": "a-chat-model"})
    assert ("tool-arguments-encoded-twice" in found) is told


def test_thoughts_that_the_trainers_own_template_keeps(tokenizer):
    own = templates.tokenizer_with(tokenizer, "qwen3")
    own.eos_token = "<|im_end|>"
    thought = "<think>\nIt is {}.\n</think>\n\nNoon."
    turns = [
        ("user", "When?"),
        ("assistant", thought.format("bright")),
        ("user", "Now?"),
        ("assistant", thought.format("dark")),
    ]
    rows = [{"messages": [{"role": role, "content": content} for role, content in turns]}]
    assert "earlier-thinking-dropped" in seen(rows, own, {})
    masked = settings(assistant_only_loss=True)
    assert "earlier-thinking-dropped" not in seen(rows, own, {"recipe": masked})


@pytest.mark.parametrize(
    ("model", "rule"),
    [
        ("Qwen/Qwen2.5-7B", "bare-strings"),  # a base model, which brings a template all the same
        ("Qwen/Qwen2.5-7B-Instruct", "template-skipped"),
        ("my-folder", "template-skipped"),
        (None, "bare-strings"),
    ],
)
def test_bare_strings_are_wrong_for_chat_models(model, rule, tokenizer):
    rows = [{"prompt": "Question: 7 * 8?\nAnswer:", "completion": " 56"}] * 2
    assert rule in seen(rows, tokenizer, {"model": model})


# ---------------------------------------------------------------- settings that change what is kept


def test_the_end_that_is_kept_is_not_called_cut_off(tokenizer):
    rows = [row | {} for row in clean_rows(20)]
    for row in rows:
        row["prompt"][0]["content"] += " And so on, and so forth." * 60
    for given, expected in (({}, True), ({"truncation_mode": "keep_end"}, False)):
        found = seen(rows, tokenizer, {"model": "a-chat-model", "recipe": settings(max_length=128, **given)})
        assert ("answer-truncated" in found or "nothing-left-to-train" in found) == expected
    strings = [{"prompt": row["prompt"][0]["content"], "completion": " Yes."} for row in rows]
    kept = settings(max_length=128, truncation_mode="keep_end")
    assert "prompt-merges-with-completion" not in seen(strings, tokenizer, {"recipe": kept})


def test_packing_without_a_length_is_left_to_the_settings(tokenizer):
    """TRL refuses the two together; that no length is known must not end in an error here."""
    case = CASES["few-packed-steps"]
    assert "few-packed-steps" in seen(fixture("few-packed-steps"), tokenizer, case)
    recipe = settings(**(case["recipe"].given | {"max_length": None}))
    found = seen(fixture("few-packed-steps"), tokenizer, case | {"recipe": recipe})
    assert "few-packed-steps" not in found
