"""The chat template explorer: what it counts, its controls, and one line for whatever cannot be read."""

import json

import pytest

from labsupport.chat_formats import templates
from labsupport.core.files import LabError
from labsupport.explorers import chat_template_explorer as explorer

TALK = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello: you."}]
BLOCKS = "User: Hi\nassistant:Hello: you."


def learned(view):
    return [row["token"] for row in view.table if "-100" not in row["label"]]


def test_what_is_learned_follows_the_choice():
    text = explorer.EXAMPLE
    assert learned(explorer.view(text)) == ["Paris", ".", "<|im_end|>", "Rome", ".", "<|im_end|>"]
    assert learned(explorer.view(text, trained="completion")) == ["Rome", ".", "<|im_end|>", "↵"]
    whole = explorer.view(text, trained="everything")
    assert len(learned(whole)) == len(whole.table)


def test_the_opening_of_an_answer_is_added_and_not_learned():
    plain, opened = (explorer.view(TALK[:1], generation_prompt=on) for on in (False, True))
    assert [row["token"] for row in opened.table[len(plain.table) :]] == [
        "<|im_start|>",
        "ass",
        "istant",
        "↵",
    ]
    assert learned(opened) == []


def test_blocks_and_json_are_the_same_messages():
    for text in (BLOCKS, json.dumps(TALK), json.dumps({"messages": TALK}), f"\n{BLOCKS}"):
        assert explorer.read(text) == TALK
    assert explorer.read("user: one\n\ntwo\nassistant: ") == [
        {"role": "user", "content": "one\n\ntwo"},
        {"role": "assistant", "content": ""},
    ]


@pytest.mark.parametrize("name", templates.names())
@pytest.mark.parametrize("trained", explorer.TRAINED)
def test_every_template_is_shown(name, trained):
    view = explorer.view(TALK, name, trained)
    assert view.heading.startswith(f"{name}: ") and templates.load(name).system in view.heading
    assert "tokenizer, with" in view.heading or name in ("chatml", "qwen2.5")
    assert 0 < len(learned(view)) <= len(view.table)
    assert "<ins " in view.drawing._repr_html_()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "There are no messages"),
        ("Hello", "begins with 'Hello', which names no role"),
        ('[{"role": "user",', "This is not JSON in line 1, column 18"),
        ("[" * 5000, "This is not JSON (nested too deeply)"),
        ("[]", "There are no messages"),
        ("[1]", "Message 1 has no role"),
        ('{"prompt": "Hi"}', "Message 1 has no role"),
        ("user: " + "x" * 30_000, "30,006 characters long"),
    ],
)
def test_what_cannot_be_read_is_one_kind_line(text, said):
    with pytest.raises(LabError) as error:
        explorer.view(text)
    assert said in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 220
    box = explorer.explore()
    box.controls["messages"].value = text
    assert box.view.heading == str(error.value) and box.view.table == []


def test_a_completion_needs_an_answer_at_the_end_and_a_prompt():
    for talk in (TALK[:1], TALK[1:]):
        with pytest.raises(LabError, match="A completion needs an answer as the last message"):
            explorer.view(talk, trained="completion")
    with pytest.raises(LabError, match="Unknown choice 'all'"):
        explorer.view(TALK, trained="all")


def test_controls_redraw_and_the_static_fallback_has_the_tokens():
    box = explorer.explore(messages=BLOCKS)
    seen = {box.out.value}
    for control, value in (("template", "qwen3"), ("trained", "everything"), ("generation_prompt", True)):
        box.controls[control].value = value
        seen.add(box.out.value)
    assert len(seen) == 4
    bundle = box._repr_mimebundle_()
    assert "«" not in bundle["text/html"] and "<ins " in bundle["text/html"]
    assert "Hello" in bundle["text/plain"] and "place" in bundle["text/plain"]


def test_what_is_typed_is_escaped():
    shown = explorer.explore(messages="user: <script>alert(1)</script>").out.value
    assert "<script>" not in shown and "&lt;" in shown
