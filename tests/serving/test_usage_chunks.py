"""A stream whose last chunk is of usage alone, as vLLM and proxies send it, is a whole answer."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from labsupport.core.files import LabError
from labsupport.models import tiny_base
from labsupport.serving import load, replies

MESSAGES = [{"role": "user", "content": "hello"}]


def chunk(text=None, finish=None, usage=None):
    choices = [SimpleNamespace(delta=SimpleNamespace(content=text), finish_reason=finish)]
    return SimpleNamespace(choices=[] if usage else choices, usage=usage)


def client_of(chunks, wrap):
    """A client whose every request gets these chunks."""
    completions = SimpleNamespace(create=lambda **options: wrap(iter(chunks)))
    client = SimpleNamespace(chat=SimpleNamespace(completions=completions))
    client.with_options = lambda **options: client
    return client


@pytest.fixture
def chunks():
    usage = SimpleNamespace(prompt_tokens=5, completion_tokens=3)
    return [chunk("a"), chunk("b"), chunk(None, "stop"), chunk(usage=usage)]


def test_usage_alone_counts_and_ends_nothing(chunks):
    answered = load.ask(client_of(chunks, nullcontext), "m", MESSAGES)
    assert (answered.text, answered.tokens, answered.error) == ("ab", 3, "")
    cut = load.ask(client_of([*chunks[:2], chunks[-1]], nullcontext), "m", MESSAGES)
    assert "ended before the answer did" in cut.error


def test_the_ids_of_a_stream_that_ends_with_usage_alone(chunks):
    tokenizer = tiny_base.load()[1]
    reply = replies.served(client_of(chunks, lambda stream: stream), "m", tokenizer, MESSAGES, 9)
    assert (reply.text, reply.prompt_tokens, reply.ended) == ("ab", 5, True)
    assert list(reply.ids) == tokenizer.convert_tokens_to_ids(["a", "b"])
    with pytest.raises(LabError, match="ended before the answer"):
        replies.served(client_of(chunks[:3], lambda stream: stream), "m", tokenizer, MESSAGES, 9)
