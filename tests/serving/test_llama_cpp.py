"""A GGUF file in llama.cpp says what transformers says of the model; and its process comes and goes."""

import subprocess
import sys

import psutil
import pytest
import torch
from peft import LoraConfig, get_peft_model
from served_models import conversations

from labsupport.core.files import ROOT, LabError
from labsupport.models import tiny_base
from labsupport.serving import gguf_export, llama_cpp

SYSTEM = {"role": "system", "content": "Be  short."}
USER = {"role": "user", "content": "Grüße 你好 🙂 naïve 12345, 3.14\n\ttab  two\r\nend "}
REPLY = {"role": "assistant", "content": " ok "}
ODD = {"role": "user", "content": "<b>&\"'\\ {{x}} </b> <|im_end|><|im_start|>"}
TALKS = [*conversations(4), [USER], [SYSTEM, USER], [SYSTEM, USER, REPLY, ODD], [USER, REPLY], [SYSTEM, ODD]]


@pytest.fixture(scope="module")
def merged():
    """The tiny base with a random adapter merged in, large enough to change what is said; its tokenizer."""
    model, tokenizer = tiny_base.load()
    torch.manual_seed(0)
    adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    return adapted.merge_and_unload().eval(), tokenizer


@pytest.fixture(scope="module", params=gguf_export.KINDS)
def gguf(request, merged, tmp_path_factory):
    return gguf_export.write(*merged, tmp_path_factory.mktemp("gguf") / "tiny.gguf", request.param)


@pytest.fixture
def whole(merged, tmp_path):
    return gguf_export.write(*merged, tmp_path / "tiny.gguf", "float32")


def text_of(tokenizer, talk) -> str:
    return tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)


def reply(model, ids: list[int], number: int) -> list[int]:
    given = torch.tensor([ids])
    options = {"attention_mask": torch.ones_like(given), "max_new_tokens": number, "do_sample": False}
    return model.generate(given, **options)[0, len(ids) :].tolist()


def family(process) -> list[psutil.Process]:
    """The process and its children: on Windows a virtual environment's Python starts another."""
    first = psutil.Process(process.pid)
    return [first, *first.children(recursive=True)]


def said(error: pytest.ExceptionInfo) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_text_and_ids_are_those_of_transformers(merged, gguf):
    _, tokenizer = merged
    texts = [text_of(tokenizer, talk) for talk in TALKS]
    with llama_cpp.opened(gguf) as opened:
        assert [opened.prompt(talk) for talk in TALKS] == texts
        assert [opened.ids(text) for text in texts] == [tokenizer(text)["input_ids"] for text in texts]


def test_a_float32_file_replies_with_the_same_tokens(merged, whole):
    model, tokenizer = merged
    asked = [tokenizer(text_of(tokenizer, talk))["input_ids"] for talk in TALKS]
    wanted = [reply(model, ids, 24) for ids in asked]
    with llama_cpp.opened(whole) as opened:
        assert [opened.generate(ids, 24) for ids in asked] == wanted
    lengths = [len(ids) for ids in wanted]
    assert 24 in lengths and min(lengths) < 24  # some end by themselves, with the token that says so
    assert wanted[lengths.index(min(lengths))][-1] == tokenizer.eos_token_id


def test_a_float16_file_leaves_the_likeliest_token_only_for_one_close_to_it(merged, tmp_path):
    model, tokenizer = merged
    file = gguf_export.write(model, tokenizer, tmp_path / "tiny.gguf", "float16")
    with llama_cpp.opened(file) as opened:
        for talk in TALKS:
            ids = tokenizer(text_of(tokenizer, talk))["input_ids"]
            replied = opened.generate(ids, 24)
            with torch.inference_mode():
                logits = model(torch.tensor([ids + replied])).logits[0, len(ids) - 1 : -1]
            taken = logits.gather(1, torch.tensor(replied)[:, None])[:, 0]
            assert (logits.max(dim=1).values - taken).max() < 0.05


def test_it_listens_on_this_machine_only_says_nothing_and_is_gone_afterwards(whole, capfd):
    with pytest.raises(KeyboardInterrupt), llama_cpp.opened(whole) as opened:
        alive = family(opened.process)
        places = {
            (connection.laddr.ip, connection.laddr.port)
            for process in alive
            for connection in process.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }
        assert opened.generate(opened.ids("a"), 2)
        raise KeyboardInterrupt
    assert places == {("127.0.0.1", opened.port)}
    assert psutil.wait_procs(alive, timeout=60)[1] == []
    assert capfd.readouterr() == ("", "")


def test_it_ends_with_a_starter_that_is_killed(whole):
    program = (
        "import sys, time\nfrom labsupport.serving import llama_cpp\n"
        "with llama_cpp.opened(sys.argv[1]) as opened:\n"
        "    print(opened.process.pid, flush=True)\n    time.sleep(600)\n"
    )
    command = [sys.executable, "-c", program, whole]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as starter:
        child = psutil.Process(int(starter.stdout.readline()))
        for process in family(starter):
            if process != child:
                process.kill()
    assert psutil.wait_procs([child], timeout=60)[1] == []


@pytest.mark.parametrize("bytes_left", [0, 4, 3000, 60_000, -1])
def test_a_file_cut_short_is_one_line(whole, bytes_left):
    whole.write_bytes(whole.read_bytes()[:bytes_left])
    with pytest.raises(LabError) as error, llama_cpp.opened(whole):
        pass
    assert "cannot open" in said(error) and "tiny.gguf (" in said(error)
    assert said(error).endswith("write it anew with gguf_export.write.")


def test_what_is_no_gguf_or_not_there_is_one_line(tmp_path):
    (tmp_path / "notes.gguf").write_text("just text\n" * 100)
    with (
        pytest.raises(LabError, match="notes.gguf.*expected 'GGUF'"),
        llama_cpp.opened(tmp_path / "notes.gguf"),
    ):
        pass
    with pytest.raises(LabError, match="none.gguf is missing"), llama_cpp.opened(tmp_path / "none.gguf"):
        pass


def test_without_the_package_or_with_one_that_does_not_load_it_is_one_line(whole, monkeypatch, tmp_path):
    (tmp_path / "xllamacpp.py").write_text("raise ImportError('GLIBC_2.99 not found')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(LabError) as error, llama_cpp.opened(whole):
        pass
    assert said(error).endswith("its package does not load on this machine: GLIBC_2.99 not found.")
    monkeypatch.setattr(llama_cpp, "PACKAGE", "no_such_package")
    with pytest.raises(LabError) as error, llama_cpp.opened(whole):
        pass
    assert "not installed" in said(error)


def test_a_crash_at_its_start_or_later_is_one_line(whole, monkeypatch, tmp_path):
    with llama_cpp.opened(whole) as opened:
        opened.process.kill()
        with pytest.raises(LabError, match="tiny.gguf gives no answer"):
            opened.ids("a")
    (tmp_path / "crashes.py").write_text("import os; os.abort()")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(llama_cpp, "MODULE", "crashes")
    with pytest.raises(LabError) as error, llama_cpp.opened(whole):
        pass
    assert "did not start" in said(error) and "its process ended, exit status" in said(error)


def test_what_cannot_be_asked_is_one_line(whole):
    with llama_cpp.opened(whole, context=256) as opened:
        with pytest.raises(LabError, match="300 tokens.*exceeds the available context size"):
            opened.generate([5] * 300, 4)
        with pytest.raises(LabError, match="max_tokens is 0"):
            opened.generate([5], 0)
        with pytest.raises(LabError, match="invalid tokens"):
            opened.generate([99_999], 4)
