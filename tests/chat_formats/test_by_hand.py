"""The two renderers in plain Python equal the published templates, whatever is said."""

import pytest
from conversations import conversations, laws
from hypothesis import given
from hypothesis import strategies as st

from labsupport.chat_formats import by_hand, templates


@pytest.fixture(scope="module")
def llama(tokenizer):
    return templates.tokenizer_with(tokenizer, "llama-3.1")


@laws
@given(conversations(), st.booleans())
def test_chatml(tokenizer, messages, prompt):
    theirs = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
    assert by_hand.chatml(messages, add_generation_prompt=prompt) == theirs


@laws
@given(conversations(), st.booleans(), st.sampled_from(["26 Jul 2024", "1 Dec 2026"]))
def test_llama3(llama, messages, prompt, date):
    options = {"tokenize": False, "add_generation_prompt": prompt, "date_string": date}
    theirs = llama.apply_chat_template(messages, **options)
    assert by_hand.llama3(messages, date, add_generation_prompt=prompt) == theirs


def test_the_messages_stay_as_they_were():
    messages = [{"role": "user", "content": " Hi "}]
    by_hand.chatml(messages), by_hand.llama3(messages)
    assert messages == [{"role": "user", "content": " Hi "}]
