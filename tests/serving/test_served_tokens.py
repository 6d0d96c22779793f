"""The real server gives the ids and the text that this process generates, whatever other clients do."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest
from peft import PeftModel
from served_models import conversations, make
from transformers import AutoModelForCausalLM

from labsupport.core.files import LabError
from labsupport.models import chat, tiny_base
from labsupport.serving import load, replies, server
from labsupport.tasks import facts, tickets

pytestmark = pytest.mark.slow
LIMIT = 24  # tokens
# 300 tokens, whatever they are: several seconds on one core.
LONG = {"generation_config": json.dumps({"min_new_tokens": 300, "max_new_tokens": 300, "eos_token_id": 2})}


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> server.Server:
    with server.running(make(tmp_path_factory.mktemp("serving"))) as running:
        yield running


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_base.load()[1]


def in_process(folder: Path, name: str):
    """Each of the three as a learner would load it here."""
    if name == "merged":
        return AutoModelForCausalLM.from_pretrained(folder / name).eval()
    base = tiny_base.load()[0]
    return base if name == "base" else PeftModel.from_pretrained(base, folder.parent / "adapter").eval()


def test_training_generation_merged_and_server_have_the_same_tokens(served, tokenizer):
    client = served.client()
    seen = {}
    for name in ("base", "adapted", "merged"):
        model = in_process(served.folder, name)
        for number, messages in enumerate(conversations(3)):
            here = replies.generated(model, tokenizer, messages, LIMIT)
            assert replies.served(client, name, tokenizer, messages, LIMIT) == here
            seen[name, number] = here
    for number, row in enumerate(tickets.load("train")[:3]):
        assert seen["adapted", number] == seen["merged", number]
        assert seen["adapted", number].ids != seen["base", number].ids  # the adapter is on
        example = chat.encode_example(tokenizer, row)
        assert chat.prompt_ids(tokenizer, row["text"]) == example.ids[: example.prompt_length]
        assert seen["merged", number].prompt_tokens == example.prompt_length


def test_a_reply_that_ends_by_itself_has_its_end_counted(served, tokenizer):
    messages = [{"role": "user", "content": "Where is my order 4711?"}]
    reply = replies.served(served.client(), "base", tokenizer, messages, 200)
    assert reply.ended and len(reply.ids) < 200
    assert reply == replies.generated(in_process(served.folder, "base"), tokenizer, messages, 200)


def test_a_plain_request_says_what_the_stream_says(served, tokenizer):
    client, messages = served.client(), conversations(1)[0]
    plain = client.chat.completions.create(
        model="adapted", messages=messages, max_tokens=LIMIT, temperature=0
    )
    streamed = replies.served(client, "adapted", tokenizer, messages, LIMIT)
    assert plain.choices[0].message.content == streamed.text
    assert plain.usage.prompt_tokens == streamed.prompt_tokens
    assert plain.usage.completion_tokens == len(streamed.ids) + streamed.ended


def test_a_client_that_goes_away_costs_the_next_one_nothing(served, tokenizer):
    client, messages = served.client(), conversations(1)[0]
    before = replies.served(client, "base", tokenizer, messages, LIMIT)
    stream = client.chat.completions.create(model="base", messages=messages, stream=True, extra_body=LONG)
    for _ in zip(range(3), stream, strict=False):
        pass
    stream.close()
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.3).chat.completions.create(
            model="base", messages=messages, extra_body=LONG
        )
    assert replies.served(client, "base", tokenizer, messages, LIMIT) == before


def test_many_clients_at_once_each_get_their_own_whole_answer(served):
    talks = conversations(6)
    one, many = load.sweep(served.client(), "merged", talks, clients=(1, 6), max_tokens=8)
    assert [level.clients for level in (one, many)] == [1, 6]
    assert [answer.text for answer in many.answers] == [answer.text for answer in one.answers]
    assert len({answer.text for answer in one.answers}) > 1
    for level in (one, many):
        assert not level.failed and level.tokens_per_second > 0
        assert all(0 < answer.first <= answer.seconds <= level.seconds for answer in level.answers)
        assert all(0 < answer.tokens <= 8 for answer in level.answers)


def test_requests_that_fail_are_counted_and_not_raised(served):
    level = load.at_once(served.client(), "no-such-model", conversations(3), clients=3)
    assert len(level.failed) == 3 and level.tokens_per_second == 0
    assert level.latency is None and level.first_token is None
    with pytest.raises(LabError, match="'no-such-model'.*log"):
        load.sweep(served.client(), "no-such-model", conversations(1))


def test_killing_the_server_gives_every_client_one_error(tmp_path):
    with server.running(make(tmp_path)) as doomed:
        client = doomed.client()
        stream = client.chat.completions.create(
            model="base", messages=conversations(1)[0], stream=True, extra_body=LONG
        )
        next(iter(stream))
        doomed.kill()
        with pytest.raises(openai.APIConnectionError):
            list(stream)
        level = load.at_once(client, "base", conversations(2), clients=2)
        assert [answer.error for answer in level.answers] == ["APIConnectionError: Connection error."] * 2
        assert doomed.process.poll() is not None


def begun(client, messages):
    """A stream of 300 tokens whose first piece is here."""
    stream = client.chat.completions.create(
        model="base", messages=messages, temperature=0, max_tokens=300, stream=True
    )
    next(iter(stream))
    return stream


def test_in_one_batch_a_client_that_goes_away_and_a_kill_lose_nobodys_answer(tmp_path):
    """All share each forward pass. Asked for codes, the base mostly writes on to the limit."""
    batching = ["--continuous-batching", "--cb-num-blocks", "64", "--cb-max-batch-tokens", "256"]
    talks = [facts.prompt(row["key"]) for row in facts.load()[:4]]
    with server.running(make(tmp_path), options=batching) as doomed, ThreadPoolExecutor(1) as pool:
        client = doomed.client()
        alone = load.at_once(client, "base", talks, 1, 40)
        stream = begun(client, talks[0])
        others = pool.submit(load.at_once, client, "base", talks, 4, 40)
        for _ in zip(range(15), stream, strict=False):  # until the others are in the batch
            pass
        stream.close()
        level = others.result(timeout=120)
        assert not level.failed
        assert [answer.tokens for answer in level.answers] == [answer.tokens for answer in alone.answers]

        stream = begun(client, talks[0])
        others = pool.submit(load.at_once, client, "base", talks, 4, 300)
        for _ in zip(range(100), stream, strict=False):
            pass
        doomed.kill()
        level = others.result(timeout=120)
        assert len(level.answers) == 4 and level.failed
        # A whole answer is counted; half a one is kept, with what went wrong, and not counted.
        assert all(bool(answer.error) is (answer.tokens == 0) for answer in level.answers)
        assert any(answer.error and answer.text for answer in level.answers)
