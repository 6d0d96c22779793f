"""Replies of a server laid beside the adapter's own: which fault each kind of difference is."""

import shutil
import socket
import threading

import pytest
from spoken_server import speaking

from labsupport.core.files import LabError
from labsupport.models import tiny_base
from labsupport.serve_checks import adapter_folder, local_replies, parity
from labsupport.serve_checks.client import Server, model_for
from labsupport.serve_checks.prompts import BUILT_IN, prompts_for

TOKENS = 6


@pytest.fixture(scope="module")
def model(good):
    return local_replies.Model(adapter_folder.opened(good))


@pytest.fixture(autouse=True)
def one_model(monkeypatch, model):
    monkeypatch.setattr(parity, "Model", lambda adapter: model)


def serving(model, speaks=None, ids=True, chat=True, completions=True, prompt=None, strict=False):
    """Answers of a server that replies as the adapter does; speaks(token ids): what it says instead."""
    bodies = []

    def said(prompt_ids, tokens):
        if speaks is not None:
            return speaks(prompt_ids)
        return model.greedy(prompt_ids, tokens)[0]

    def answers(path, body):
        if path == "/v1/models":
            return 200, {"data": [{"id": "base"}, {"id": "tuned", "parent": "base"}]}
        bodies.append((path, body))
        if strict and "return_token_ids" in body:
            return 400, {"error": {"message": "unknown parameter: return_token_ids"}}
        on = path.endswith("/chat/completions")
        if not (chat if on else completions):
            return 404, {"error": "no such path"}
        prompt_ids = model.prompt_ids(body["messages"]) if on else body["prompt"]
        prompt_ids = prompt(prompt_ids) if on and prompt else prompt_ids
        found = said(prompt_ids, body["max_tokens"])
        text = model.decoded(found)
        choice = {"message": {"content": text}} if on else {"text": text}
        told = {"token_ids": [*found, min(model.ends)], **({} if on else {"prompt_token_ids": prompt_ids})}
        whole = {"choices": [choice | (told if ids else {})]}
        return 200, whole | ({"prompt_token_ids": prompt_ids} if ids and on else {})

    answers.bodies = bodies
    return answers


def test_a_server_that_cannot_list_its_models_is_asked_by_the_name_given(good, model):
    listing = serving(model)

    def answers(path, body):
        return (500, "Internal Server Error") if path == "/v1/models" else listing(path, body)

    compared, found, _ = tried(good, answers, served="tuned")
    assert found == {} and compared
    with pytest.raises(LabError, match="give --served"):
        tried(good, answers)


def tried(good, answers, served=None):
    """(comparisons, rule -> evidence)."""
    adapter = adapter_folder.opened(good)
    with speaking(answers) as url:
        compared, found, _ = parity.tested(adapter, url, served, prompts_for(good, None), TOKENS, None)
    return compared, {one.rule.id: [evidence.text for evidence in one.evidence] for one in found}, adapter


def test_the_same_replies_are_no_finding_and_are_asked_for_greedily(good, model):
    answers = serving(model)
    compared, found, _ = tried(good, answers)
    assert found == {} and len(compared) == 2 * len(BUILT_IN)
    assert all(one.same and one.same_prompt and one.ids_compared for one in compared)
    for _, body in answers.bodies:
        assert body["temperature"] == 0 and body["max_tokens"] == TOKENS and body["model"] == "tuned"
        assert body["return_token_ids"] is True and body["repetition_penalty"] == 1.0


def test_a_server_that_knows_no_token_ids_is_compared_by_its_text(good, model):
    answers = serving(model, ids=False, strict=True)
    compared, found, _ = tried(good, answers)
    assert found == {} and all(one.same and not one.ids_compared for one in compared)
    refused = [body for _, body in answers.bodies if "return_token_ids" in body]
    assert len(refused) == 1  # asked once, then no more


def test_other_tokens_are_an_error_that_shows_where_and_by_how_much(good, model):
    def other(prompt_ids):
        found, logits = model.greedy(prompt_ids, TOKENS)
        return [int(logits[0].argmin()), *found[1:]]

    compared, found, _ = tried(good, serving(model, other))
    assert set(found) == {"reply-differs"} and "from token 1 on, its token " in found["reply-differs"][0]
    assert all(one.place == 0 and one.gap > parity.TIE for one in compared)


def test_the_first_difference_is_found_wherever_it_is():
    assert parity.first_difference([1, 2, 3], [1, 2, 4]) == 2
    assert parity.first_difference([1, 2], [1, 2, 3]) == parity.first_difference([1, 2, 3], [1, 2]) == 2


def test_a_near_tie_is_a_note(good, model, monkeypatch):
    def second(prompt_ids):
        found, logits = model.greedy(prompt_ids, TOKENS)
        return [int(logits[0].topk(2).indices[1]), *found[1:]]

    monkeypatch.setattr(parity, "TIE", 100.0)
    assert set(tried(good, serving(model, second))[1]) == {"near-tie"}


def test_a_server_without_the_adapter(good, model):
    def as_base(prompt_ids):
        with model.model.disable_adapter():
            return model.greedy(prompt_ids, TOKENS)[0]

    assert set(tried(good, serving(model, as_base))[1]) == {"adapter-not-applied"}


@pytest.mark.parametrize("ids", [True, False])
def test_another_template_is_told_from_other_weights(good, model, ids):
    _, found, _ = tried(good, serving(model, ids=ids, prompt=lambda one: one[::-1]))
    assert set(found) == {"prompt-differs"}


def test_a_reply_that_the_server_cut_off_is_no_agreement(good, model):
    _, found, _ = tried(good, serving(model, lambda prompt_ids: model.greedy(prompt_ids, TOKENS)[0][:3]))
    assert "reply-differs" in found or "near-tie" in found


def test_one_way_of_asking_is_enough_and_none_is_noted(good, model):
    for only in ({"chat": False}, {"completions": False}):
        compared, found, _ = tried(good, serving(model, **only))
        assert found == {} and len(compared) == len(BUILT_IN)
    compared, found, adapter = tried(good, serving(model, chat=False, completions=False))
    assert compared == [] and "neither chat nor completions" in adapter.notes[-1]


def test_prompts_on_which_the_adapter_changes_nothing():
    locals_ = [local_replies.Local([1], [2], "a", [], "a")] * 2
    agreeing = parity.Comparison("p", 0, "chat", True, None, True, None, None, "a", "a", False)
    assert [one.rule.id for one in parity.findings([agreeing], locals_)] == ["prompts-too-easy"]


def test_prompts_that_look_alike_are_not_mistaken_for_each_other():
    def one(row, way, same):
        return parity.Comparison(
            "same ends", row, way, same, None, False, None if same else 0, 9.0, "a", "b", False
        )

    locals_ = [local_replies.Local([1], [2], "a", [], "b")] * 2
    # Of the first row both ways differ: other weights. Of the second neither does.
    rows = [
        one(0, "chat", False),
        one(0, "completion", False),
        one(1, "chat", True),
        one(1, "completion", True),
    ]
    assert [found.rule.id for found in parity.findings(rows, locals_)] == ["reply-differs"]


def test_a_prompt_that_the_template_refuses_is_named(good):
    import copy

    model = copy.copy(local_replies.Model(adapter_folder.opened(good)))
    model.tokenizer = copy.deepcopy(model.tokenizer)
    model.tokenizer.chat_template = "{{ raise_exception('System role not supported') }}"
    with pytest.raises(LabError, match=r"refuses the prompt 'Hello' \(System role not supported\)"):
        model.prompt_ids([{"role": "user", "content": "Hello"}])


def test_a_base_that_cannot_be_loaded_is_said_in_one_line(good, tmp_path):
    folder = tmp_path / "base"
    shutil.copytree(tiny_base.FOLDER, folder)
    (folder / "config.json").write_text('{"model_type": "no-such-family"}')
    with pytest.raises(LabError, match="cannot be loaded here") as caught:
        local_replies.Model(adapter_folder.opened(good, base=str(folder)))
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- which model, which server


def test_the_servers_name_for_the_adapter(good):
    def chosen(*listed, wanted=None):
        return model_for(list(listed), good, wanted, "url")

    assert chosen({"id": "x"}, {"id": "y", "root": str(good)}) == "y"
    assert chosen({"id": "x"}, {"id": "good"}) == "good"
    assert chosen({"id": "x"}, {"id": "y", "parent": "x"}) == "y"
    assert chosen({"id": "x"}) == "x"
    assert chosen({"id": "x"}, {"id": "y"}, wanted="x") == "x"
    with pytest.raises(LabError, match="Give --served, one of: x, y"):
        chosen({"id": "x"}, {"id": "y"})
    with pytest.raises(LabError, match="serves no model 'z'. It has: x"):
        chosen({"id": "x"}, wanted="z")


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host/", "http://", "http://[::1", ""])
def test_addresses_that_are_none(url):
    with pytest.raises(LabError, match="is no address"):
        Server(url)


def test_servers_that_do_not_speak_the_protocol():
    with pytest.raises(LabError, match="No server answers at http://127.0.0.1:9"):
        Server("http://127.0.0.1:9/v1/").models()
    for status, said, words in (
        (200, "<html>", "no list of models"),
        (404, {}, "status 404"),
        (401, {}, "asks for a key"),
    ):
        with (
            speaking(lambda path, body, a=status, b=said: (a, b)) as url,
            pytest.raises(LabError, match=words),
        ):
            Server(url).models()
    with (
        speaking(lambda path, body: (500, {"error": "CUDA\nout of memory"})) as url,
        pytest.raises(LabError, match="status 500: .*out of memory"),
    ):
        Server(url).chat("m", [], 4)


def test_a_key_that_is_refused_is_not_called_missing(good, monkeypatch):
    monkeypatch.setenv("MY_KEY", "wrong")
    keys = adapter_folder.opened(good)
    with speaking(lambda path, body: (401, {})) as url:
        with pytest.raises(LabError, match="refuses the key that --key-variable names"):
            Server(url, "MY_KEY").models()
        with pytest.raises(LabError, match="asks for a key"):  # and with a name given, too, before any reply
            parity.tested(keys, url, "tuned", [], TOKENS, None)


@pytest.mark.parametrize(
    ("choice", "text"),
    [
        ({"message": {"content": "hi"}}, "hi"),
        ({"message": "hi"}, "hi"),
        ({"message": {"content": [{"type": "text", "text": "h"}, {"text": "i"}]}}, "hi"),
        ({"message": {"content": None}}, ""),
    ],
)
def test_a_proxys_forms_of_a_reply_are_read(choice, text):
    with speaking(lambda path, body: (200, {"choices": [choice]})) as url:
        assert Server(url).chat("m", [], 4).text == text


@pytest.mark.parametrize("said", [{"choices": {"0": {}}}, {"choices": []}, "hello", {}])
def test_answers_without_a_reply_are_one_line(said):
    with (
        speaking(lambda path, body: (200, said)) as url,
        pytest.raises(LabError, match="answers with status 200"),
    ):
        Server(url).chat("m", [], 4)


def test_an_error_that_breaks_off_is_one_line():
    """A proxy that says 502, promises 100 bytes and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as torn:
        thread = threading.Thread(target=hang_up, args=(torn,), daemon=True)
        thread.start()
        with pytest.raises(LabError, match="No server answers"):
            Server(f"http://127.0.0.1:{torn.getsockname()[1]}").models()
        thread.join()


def hang_up(server):
    connection, _ = server.accept()
    with connection:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 100\r\n\r\nsorry")


def test_a_server_that_says_nothing_is_not_waited_for_without_end(monkeypatch):
    monkeypatch.setattr("labsupport.serve_checks.client.SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(LabError, match="does not answer within 0.2 seconds"):
            Server(url).models()


def test_the_key_is_taken_from_the_variable_that_is_named(monkeypatch):
    monkeypatch.setenv("MY_KEY", "abc")
    assert Server("http://localhost", "MY_KEY").key == "abc" and Server("http://localhost").key is None
    monkeypatch.setenv("MY_KEY", "abc\n")  # as a file of one line is read
    assert Server("http://localhost", "MY_KEY").key == "abc"
    for name, value in (("NO_KEY", ""), ("MY_KEY", "ab\ncd")):
        monkeypatch.setenv(name, value)
        with pytest.raises(LabError, match=f"--key-variable {name}") as caught:
            Server("http://localhost", name)
        assert "cd" not in str(caught.value)


def test_a_card_that_the_server_fills_is_said_in_one_line(good, monkeypatch):
    import torch

    def full(*words, **options):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("labsupport.models.base_model.load", full)
    with pytest.raises(LabError, match="LAB_PROFILE=cpu"):
        local_replies.Model(adapter_folder.opened(good))
