"""Which profile a machine gets, what overrides it, and that TRL accepts its arguments."""

import importlib.util
import inspect
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from labsupport.core import files, profiles
from labsupport.core.files import LabError

CARDS = {
    "80 GB": {"name": "A100", "memory_gib": 79.2, "bf16": True},
    "24 GB": {"name": "RTX 3090", "memory_gib": 23.6, "bf16": True},
    "T4": {"name": "Tesla T4", "memory_gib": 14.6, "bf16": False},
}


MEASURED = '{"dtype": "bfloat16", "threads": 5, "tokens_per_second": {"float32": 103.2, "bfloat16": 386}}'


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """No settings from outside, no ready.json, no card, no driver."""
    for name in ("LAB_PROFILE", "LAB_DTYPE", "LAB_THREADS", "LAB_BASE_MODEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(profiles, "STATE", tmp_path)
    monkeypatch.setattr(profiles, "gpu", lambda: None)
    monkeypatch.setattr(profiles, "nvidia_driver", lambda: None)


def insert_card(monkeypatch, card):
    monkeypatch.setattr(profiles, "gpu", lambda: card)


# ---------------------------------------------------------------- settings


def test_without_a_card_it_is_the_processor():
    profile = profiles.current()
    assert (profile.name, profile.use_cpu, profile.bf16, profile.fp16) == ("cpu", True, False, False)
    assert not profile.quantize


def test_settings_override_the_profile(monkeypatch):
    monkeypatch.setenv("LAB_PROFILE", "smoke")
    monkeypatch.setenv("LAB_DTYPE", "bfloat16")
    monkeypatch.setenv("LAB_THREADS", "3")
    monkeypatch.setenv("LAB_BASE_MODEL", "owner/model")
    profile = profiles.current()
    assert (profile.name, profile.dtype, profile.threads) == ("smoke", "bfloat16", 3)
    assert profile.base_model == "owner/model"
    assert profile.max_steps == 2


@pytest.mark.parametrize(
    "setting, value, told",
    [
        ("LAB_PROFILE", "huge", "cpu, gpu-16gb, gpu-24gb, gpu-80gb, short, smoke"),
        ("LAB_DTYPE", "int8", "float32, bfloat16, float16"),
        ("LAB_THREADS", "two", "whole number of at least 1"),
        ("LAB_THREADS", "0", "whole number of at least 1"),
        ("LAB_THREADS", "-1", "whole number of at least 1"),
    ],
)
def test_a_wrong_setting_is_told_the_valid_values(monkeypatch, setting, value, told):
    monkeypatch.setenv(setting, value)
    with pytest.raises(LabError) as error:
        profiles.current()
    assert repr(value) in str(error.value) and told in str(error.value)


def test_what_set_up_measured_counts_and_settings_win_over_it(monkeypatch, tmp_path):
    (tmp_path / "ready.json").write_text(MEASURED)
    profile = profiles.current()
    assert (profile.dtype, profile.threads) == ("bfloat16", 5)
    monkeypatch.setenv("LAB_DTYPE", "float32")
    assert profiles.current().dtype == "float32"


def changed(**changes) -> str:
    return json.dumps({**json.loads(MEASURED), **changes})


@pytest.mark.parametrize(
    "damaged",
    [
        "",
        '{"dtype": "bf',
        "[]",
        "null",
        "7",
        b"\xff\xfe",
        "[" * 100_000,
        '{"dtype": "bfloat16", "threads": 5}',
        changed(dtype="int8"),
        changed(dtype=None),
        changed(dtype=["float32"]),
        changed(threads=0),
        changed(threads=2.5),
        changed(threads="5"),
        changed(threads=True),
        changed(tokens_per_second=None),
        changed(tokens_per_second=[386]),
        changed(tokens_per_second={"bfloat16": "fast"}),
        changed(tokens_per_second={"bfloat16": 0}),
        changed(tokens_per_second={"bfloat16": float("nan")}),
        changed(tokens_per_second={"bfloat16": True}),
    ],
)
def test_damaged_measurements_fall_back_to_the_profile(tmp_path, damaged):
    (tmp_path / "ready.json").write_bytes(damaged if isinstance(damaged, bytes) else damaged.encode())
    assert profiles.read_settings() == {}
    assert profiles.current() == profiles.get("cpu")


# ---------------------------------------------------------------- graphics cards


@pytest.mark.parametrize("card, name", [("80 GB", "gpu-80gb"), ("24 GB", "gpu-24gb"), ("T4", "gpu-16gb")])
def test_a_card_gets_the_profile_of_its_memory(monkeypatch, card, name):
    insert_card(monkeypatch, CARDS[card])
    assert profiles.current().name == name


def test_an_ampere_card_computes_in_bfloat16_and_a_t4_in_float16(monkeypatch):
    insert_card(monkeypatch, CARDS["24 GB"])
    ampere = profiles.current()
    assert (ampere.dtype, ampere.bf16, ampere.fp16) == ("bfloat16", True, False)
    insert_card(monkeypatch, CARDS["T4"])
    turing = profiles.current()
    assert (turing.dtype, turing.bf16, turing.fp16) == ("float16", False, True)


def test_a_small_card_says_what_is_needed_and_how_to_go_on(monkeypatch):
    insert_card(monkeypatch, {"name": "GTX 1080", "memory_gib": 8.0, "bf16": False})
    with pytest.raises(LabError, match="GTX 1080 has 8 GiB.*needs 16.*LAB_PROFILE=cpu"):
        profiles.current()
    monkeypatch.setenv("LAB_PROFILE", "cpu")
    assert profiles.current().use_cpu


@pytest.mark.parametrize(
    "driver, capability, built, told",
    [
        ("555.42", None, None, "start --torch cuda`.* CUDA 12.6"),
        ("555.42", (8, 9), "13.0", "start --torch cuda`.* CUDA 12.6"),
        ("580.82", (12, 0), None, "start --torch cuda`.* CUDA 13.0"),
        ("580.82", (8, 9), "13.0", "fits the driver.*--gpus all"),
        ("510.47", (8, 0), None, "driver below 525.*another host.*start --torch cpu`"),
        ("570.86", (12, 0), None, "RTX.*driver 580.*start --torch cpu`"),
        ("580.82", (7, 0), "13.0", "RTX.*older than any.*start --torch cpu`"),
    ],
)
def test_a_driver_that_torch_cannot_use_is_named_with_what_mends_it(
    monkeypatch, driver, capability, built, told
):
    """A container's user cannot change the driver, so nobody is told to update it."""
    monkeypatch.setattr(profiles, "nvidia_driver", lambda: driver)
    monkeypatch.setattr(profiles, "nvidia_cards", lambda: [profiles.Card(driver, capability, "RTX")])
    monkeypatch.setattr(profiles, "built_for", lambda: built)
    monkeypatch.setattr(profiles.platform, "system", lambda: "Linux")
    with pytest.raises(LabError, match=f"{driver}.*{told}.*LAB_PROFILE=cpu") as error:
        profiles.current()
    assert "update" not in str(error.value)


def test_a_gpu_profile_without_a_gpu_is_refused(monkeypatch):
    monkeypatch.setenv("LAB_PROFILE", "gpu-24gb")
    with pytest.raises(LabError, match="gpu-24gb.*no GPU"):
        profiles.current()


def test_the_driver_is_what_nvidia_smi_says(monkeypatch):
    monkeypatch.undo()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(profiles.shutil, "which", lambda _: "nvidia-smi")
    for status, output, expected in [
        (0, "555.42\n555.42\n", "555.42"),
        (9, "no driver", None),
        (0, "", None),
    ]:
        answer = subprocess.CompletedProcess([], status, output)
        monkeypatch.setattr(profiles.subprocess, "run", lambda *_, answer=answer, **__: answer)
        assert profiles.nvidia_driver() == expected


def test_nvidia_smis_lines_are_read_as_lab_py_reads_them():
    lines = ["550.54.14, 8.9, NVIDIA L4", "550.54.14, [N/A], NVIDIA H100, PCIe", "470.82", "No devices", ""]
    spec = importlib.util.spec_from_file_location("lab", files.ROOT / "lab.py")
    lab = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(lab)
    cards = [(c.driver, c.capability, c.name) for c in profiles.read_cards("\n".join(lines))]
    assert cards[0] == ("550.54.14", (8, 9), "NVIDIA L4")
    assert cards == [card for card in map(lab.read_card, lines) if card[0]]
    for rule in ("DRIVER_FOR_CUDA_13", "DRIVER_FOR_CUDA_12", "OLDEST_CARD", "NEWEST_CARD_OF_CUDA_12"):
        assert getattr(profiles, rule) == getattr(lab, rule)


@pytest.mark.parametrize("hides", ["", "-1"])
def test_a_driver_whose_cards_are_all_hidden_does_not_count(monkeypatch, hides):
    monkeypatch.undo()
    monkeypatch.setattr(profiles.shutil, "which", lambda _: "nvidia-smi")
    monkeypatch.setattr(profiles.subprocess, "run", lambda *_, **__: pytest.fail("asked"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hides)
    assert profiles.nvidia_driver() is None


@pytest.mark.parametrize(
    "setting, seen",
    [
        ({}, "0"),
        ({"CUDA_VISIBLE_DEVICES": "2,3"}, "2,3"),
        ({"CUDA_VISIBLE_DEVICES": ""}, ""),
        ({"LOCAL_RANK": "1"}, "None"),
    ],
)
def test_of_several_cards_the_first_is_used_unless_something_else_is_set(setting, seen):
    """The trainer spreads over all that torch sees, and refuses to do that with a quantised model."""
    around = {k: v for k, v in os.environ.items() if k not in ("CUDA_VISIBLE_DEVICES", "LOCAL_RANK")}
    program = (
        "import os, sys; from labsupport.core import upstream; assert 'torch' not in sys.modules; "
        "print(os.environ.get('CUDA_VISIBLE_DEVICES'))"
    )
    command = [sys.executable, "-c", program]
    said = subprocess.run(command, cwd=files.ROOT, env=around | setting, capture_output=True, text=True)
    assert said.stdout.rstrip("\n") == seen, said.stderr


# ---------------------------------------------------------------- the trainer's arguments


@pytest.fixture
def recipe_arguments(monkeypatch):
    """The keywords that recipe.trainer() hands to SFTConfig, without a model or training."""
    import trl

    from labsupport.models import base_model
    from labsupport.training import recipe

    seen = {}

    class Stop(Exception):
        pass

    def config(**keywords):
        seen.update(keywords)
        raise Stop

    monkeypatch.setattr(trl, "SFTConfig", config)
    monkeypatch.setattr(base_model, "load", lambda: (SimpleNamespace(), SimpleNamespace()))

    def collect():
        with pytest.raises(Stop):
            recipe.trainer()
        return dict(seen)

    return collect


@pytest.mark.parametrize("name", ["cpu", "smoke"])
@pytest.mark.parametrize("dtype", profiles.DTYPES)
def test_trl_accepts_the_processors_arguments(monkeypatch, tmp_path, recipe_arguments, name, dtype):
    from trl.trainer.sft_config import SFTConfig

    monkeypatch.setenv("LAB_PROFILE", name)
    monkeypatch.setenv("LAB_DTYPE", dtype)
    made = SFTConfig(**{**recipe_arguments(), "output_dir": str(tmp_path)})
    assert made.device.type == "cpu"
    assert (made.bf16, made.fp16) == (dtype == "bfloat16", False)
    assert made.max_length == profiles.get(name).max_length


@pytest.mark.parametrize("card", CARDS)
def test_a_cards_arguments_are_known_to_trl_and_mix_one_format(monkeypatch, recipe_arguments, card):
    """SFTConfig itself refuses GPU arguments on a machine without one: its signature is asked."""
    from trl.trainer.sft_config import SFTConfig

    insert_card(monkeypatch, CARDS[card])
    arguments = recipe_arguments()
    assert set(arguments) <= set(inspect.signature(SFTConfig).parameters)
    assert not arguments["use_cpu"] and arguments["activation_checkpointing"]
    assert (arguments["bf16"], arguments["fp16"]) == (CARDS[card]["bf16"], not CARDS[card]["bf16"])


def test_every_card_sees_the_same_number_of_rows_a_step():
    cards = [profile for profile in profiles.PROFILES.values() if not profile.use_cpu]
    assert len({profile.batch_size * profile.accumulation for profile in cards}) == 1
