"""`lab.py serve-check` as it is typed: what it prints, its status, and the line for vLLM."""

import json
import shlex

import pytest
from made_adapters import copied, made, respun
from spoken_server import speaking

from labsupport import cli
from labsupport.core.files import LabError
from labsupport.models import tiny_base
from labsupport.serve_checks import vllm_facts
from labsupport.serve_checks.commands import vllm_serve


def typed(capsys, *words) -> tuple[int, str, str]:
    """(status, standard output, standard error)."""
    status = cli.main(["serve-check", *map(str, words)])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_a_sound_adapter_is_status_0_and_the_line_that_serves_it(good, capsys):
    status, out, err = typed(capsys, good)
    assert (status, err) == (0, "") and "LoRA of rank 4" in out and "No fault was found (2 notes)" in out
    assert "vllm serve" in out and "--max-lora-rank 8" in out


def test_faults_are_status_1_with_why_and_fix_and_no_line_for_what_cannot_be_served(good, capsys, tmp_path):
    status, out, _ = typed(capsys, copied(good, tmp_path / "a", use_dora=True))
    assert status == 1 and "error dora" in out and "Why: " in out and "Fix: Merge it" in out
    assert "vllm serve" not in out
    status, out, _ = typed(capsys, made(tmp_path / "b", r=24))
    assert status == 1 and "warning rank-above-limit" in out and "--max-lora-rank 32" in out
    assert typed(capsys, tmp_path / "b", "--max-lora-rank", 32)[0] == 0


def test_json_is_one_document(good, capsys):
    status, out, _ = typed(capsys, good, "--json")
    found = json.loads(out)
    assert (status, found["clean"], found["rank"], found["replies"]) == (0, True, 4, None)
    assert {one["id"] for one in found["findings"]} == {"float32", "base-is-a-path"}
    assert {"dora", "not-finite", "another-base"} < set(found["looked_for"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["absent"], "There is no folder absent"),
        (["{good}", "--max-lora-rank", "0"], "--max-lora-rank is 0"),
        (["{good}", "--tokens", "0"], "--tokens is 0"),
        (["{good}", "--url", "localhost"], "is no address"),
        (
            ["{good}", "--url", "http://localhost", "--prompts", "absent.jsonl"],
            "There is no file absent.jsonl",
        ),
    ],
)
def test_bad_input_is_one_line_and_status_2(good, capsys, words, said):
    status, _, err = typed(capsys, *(word.format(good=good) for word in words))
    assert status == 2 and said in err and err.count("\n") == 1


def test_a_server_is_asked_and_its_replies_reported(good, capsys, tmp_path):
    prompts = tmp_path / "rows.jsonl"
    row = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
    prompts.write_text(json.dumps(row) + "\n")
    asked = []

    def rubbish(path, body):
        if path == "/v1/models":
            return 200, {"data": [{"id": "it"}]}
        asked.append(body)
        return 200, {"choices": [{"text": "zzz", "message": {"content": "zzz"}}]}

    with speaking(rubbish) as url:
        status, out, _ = typed(capsys, good, "--url", url, "--prompts", prompts, "--tokens", 4, "--json")
    found = json.loads(out)
    assert status == 1 and {one["id"] for one in found["findings"]} >= {"reply-differs"}
    assert [one["way"] for one in found["replies"]] == ["chat", "completion"] and found["served"] == "it"
    assert asked[0]["messages"] == [{"role": "user", "content": "Hi"}]


def test_what_cannot_be_loaded_is_not_compared_and_says_so(good, capsys, tmp_path):
    def spoil(tensors):
        for name in tensors:
            tensors[name] *= float("nan")

    status, out, _ = typed(capsys, respun(good, tmp_path / "a", spoil), "--url", "http://127.0.0.1:9")
    assert status == 1 and "Replies were not compared: see not-finite." in out


def test_a_server_that_is_gone_leaves_what_was_found(good, capsys):
    status, out, err = typed(capsys, good, "--url", "http://127.0.0.1:9")
    assert status == 2 and "vllm serve" in out and "No server answers" in err and err.count("\n") == 1


# ---------------------------------------------------------------- the line for vLLM


def words(*asked) -> list[str]:
    return shlex.split(vllm_serve(*asked).replace("\\\n", ""))


def test_the_line_for_vllm_holds_base_adapter_and_rank(good, tmp_path):
    found = words(good)
    assert found[:4] == ["vllm", "serve", str(tiny_base.FOLDER), "--enable-lora"]
    assert found[4:] == ["--lora-modules", f"good={good}", "--max-lora-rank", "8"]
    assert words(good, "data/tiny_base") == found
    hub = copied(good, tmp_path / "with space", base_model_name_or_path="owner/model")
    assert words(hub, None, "mine")[2] == "owner/model"
    assert f"mine={hub}" in words(hub, None, "mine")


@pytest.mark.parametrize("name", ["lr=2e-4", "epoch=3,step=100", "a,b"])
def test_a_folder_with_signs_that_vllm_would_cut_at_is_given_as_json(good, tmp_path, name):
    """vLLM cuts name=path at the first "=", and takes what has a comma in it for JSON."""
    folder = copied(good, tmp_path / name)
    (given,) = [word for word in shlex.split(vllm_serve(folder)) if name in word]
    assert json.loads(given) == {"name": name, "path": str(folder)}
    plain = f"mine={folder}" in shlex.split(vllm_serve(folder, name="mine"))
    assert plain == ("," not in name)


def test_the_line_for_vllm_brings_a_template_of_its_own_and_takes_penalties_back(good, tmp_path):
    import shutil

    base = tmp_path / "base"
    shutil.copytree(tiny_base.FOLDER, base)
    (base / "chat_template.jinja").write_text("another")
    settings = base / "generation_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"repetition_penalty": 1.05}))
    found = words(good, str(base))
    assert found[found.index("--chat-template") + 1] == str(good / "chat_template.jinja")
    assert found[found.index("--override-generation-config") + 1] == '{"repetition_penalty": 1.0}'
    assert {word for word in found if word.startswith("--")} < set(vllm_facts.OPTIONS)


def test_no_line_for_a_rank_beyond_vllms(good, tmp_path):
    with pytest.raises(LabError, match="has rank 600, and vLLM's --max-lora-rank ends at 512"):
        vllm_serve(copied(good, tmp_path / "a", r=600))
