"""The published templates: faithful copies, rendered as transformers renders them, refusals in one line."""

import json
from pathlib import Path

import pytest
import trl
from conversations import conversations, laws
from hypothesis import given
from hypothesis import strategies as st

from labsupport.chat_formats import templates
from labsupport.core.files import LabError

COPIES = {"llama-3.1": "llama3_1", "qwen2.5": "qwen2_5", "qwen3": "qwen3", "gemma-2": "gemma"}
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": " Hello. "},
    {"role": "user", "content": "Bye"},
]


@pytest.fixture(scope="module")
def tokenizers(tokenizer):
    """For each template a tokenizer that carries it."""
    return {name: templates.tokenizer_with(tokenizer, name) for name in templates.names()}


@pytest.mark.parametrize(("name", "file"), COPIES.items())
def test_copies_are_byte_for_byte(name, file):
    original = Path(trl.__file__).parent / "chat_templates" / f"{file}.jinja"
    assert (templates.FOLDER / f"{name}.jinja").read_bytes() == original.read_bytes()


def test_chatml_is_the_course_models_own(tokenizer):
    template = templates.load("chatml")
    assert template.jinja == tokenizer.chat_template
    assert [template.bos, template.eos, template.pad] == [
        tokenizer.bos_token,
        tokenizer.eos_token,
        tokenizer.pad_token,
    ]


def test_every_template_has_its_file_and_its_facts():
    there = {path.stem for path in templates.FOLDER.glob("*.jinja")} - {"chatml_training"}
    assert there == set(templates.names())
    card = (templates.FOLDER / "README.md").read_text(encoding="utf-8")
    for name in templates.names():
        template = templates.load(name)
        assert template.source and template.licence and template.system.endswith(".")
        assert f"`{name}`" in card and template.model in card
        assert {template.end, template.eos} <= set(template.special)


@laws
@given(conversations(), st.booleans())
def test_rendering_is_what_apply_chat_template_gives(tokenizers, messages, prompt):
    for name in templates.names():
        talk = [m for m in messages if m["role"] != "system"] if name == "gemma-2" else messages
        theirs = tokenizers[name].apply_chat_template(talk, add_generation_prompt=prompt, tokenize=False)
        assert templates.render(name, talk, prompt) == theirs


@laws
@given(conversations(), st.booleans())
def test_chatml_is_the_base_tokenizers_output_and_so_is_its_training_copy(tokenizer, messages, prompt):
    theirs = tokenizer.apply_chat_template(messages, add_generation_prompt=prompt, tokenize=False)
    assert templates.render("chatml", messages, prompt) == theirs
    training = Path(templates.training_path()).read_text(encoding="utf-8")
    marked = tokenizer.apply_chat_template(
        messages, chat_template=training, add_generation_prompt=prompt, tokenize=False
    )
    assert marked == theirs


@pytest.mark.parametrize("name", templates.names())
def test_an_answer_stands_between_header_and_end(name):
    template = templates.load(name)
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    _, answer = templates.render(template, talk).split(template.header)
    assert answer.rstrip("\n").endswith(f"Hello.{template.end}")
    if name != "mistral-v0.3":
        assert templates.render(template, talk[:1], True).endswith(template.header)


@pytest.mark.parametrize("name", templates.names())
def test_special_tokens_are_one_token_each(tokenizers, name):
    template, own = templates.load(name), tokenizers[name]
    for token in template.special:
        assert own.tokenize(token) == [token]
    assert own.eos_token == template.eos and own.bos_token == template.bos


def test_adding_tokens_leaves_the_courses_tokenizer_as_it_was(tokenizer):
    before = len(tokenizer), tokenizer.chat_template
    assert len(templates.tokenizer_with(tokenizer, "llama-3.1")) == before[0] + 4
    assert (len(tokenizer), tokenizer.chat_template) == before


def test_what_becomes_of_a_system_prompt():
    """What the card says of each template."""
    shown = {name: templates.render(name, TALK) for name in templates.names() if name != "gemma-2"}
    assert all("Be brief." in text for text in shown.values())
    assert shown["mistral-v0.3"] == "<s>[INST] Hi[/INST] Hello.</s>[INST] Be brief.\n\nBye[/INST]"
    assert "Be brief." not in templates.render("mistral-v0.3", TALK[:3])  # it ends with an answer
    bare = {name: templates.render(name, TALK[1:]) for name in templates.names()}
    assert "You are a helpful AI assistant named SmolLM" in bare["chatml"]
    assert "You are Qwen, created by Alibaba Cloud" in bare["qwen2.5"]
    assert "<|im_start|>system" not in bare["qwen3"]
    assert "Today Date: 26 Jul 2024\n\n<|eot_id|>" in bare["llama-3.1"]
    with pytest.raises(LabError, match="^gemma-2 refuses this conversation: System role not supported. C"):
        templates.render("gemma-2", TALK)


def test_qwen3_thinks_unless_told_not_to():
    ask = TALK[:2]
    assert "<think>" not in templates.render("qwen3", ask, True)
    assert templates.render("qwen3", ask, True, enable_thinking=False).endswith("<think>\n\n</think>\n\n")
    assert templates.render("qwen3", TALK[:3]).count("<think>\n\n</think>") == 1


@pytest.mark.parametrize("name", ["mistral-v0.3", "gemma-2"])
def test_turns_must_alternate_where_the_template_says_so(name):
    with pytest.raises(LabError, match="alternate"):
        templates.render(name, [TALK[1], TALK[3]])


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([], "no messages"),
        ("Hello", "no messages"),
        (["Hello"], "Message 1 has no role and content as text: it is Hello."),
        ([TALK[0], {"role": "user"}], "Message 2 has no role"),
        ([{"role": "user", "content": None}], "Message 1"),
        ([{"role": "user", "content": [{"type": "text", "text": "Hi"}]}], "Message 1"),
    ],
)
def test_bad_messages_are_one_line(messages, text):
    with pytest.raises(LabError) as error:
        templates.render("chatml", messages)
    assert text in str(error.value) and "\n" not in str(error.value)


def test_an_unknown_template_names_the_nearest():
    with pytest.raises(LabError, match="Unknown template 'llama3'. There are: llama-3.1, "):
        templates.load("llama3")


def test_the_facts_are_sorted_json():
    text = (templates.FOLDER / "templates.json").read_text(encoding="utf-8")
    assert templates.names() == sorted(json.loads(text))
