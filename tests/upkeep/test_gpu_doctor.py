"""What `lab.py doctor --gpu` tries, by the same code on the processor, and what it says of made-up cards."""

import dataclasses
import json
from types import SimpleNamespace

import pytest
import torch

from labsupport import cli
from labsupport.core import profiles
from labsupport.upkeep import gpu_doctor, gpu_trials
from labsupport.upkeep.gpu_doctor import NOT_TRIED, Check

L4 = profiles.Card("550.54.14", (8, 9), "NVIDIA L4")
SMALL_TRIALS = ("matrix product", "TRL's output head", "NF4 layer")


@pytest.fixture(params=profiles.DTYPES)
def trial(request, tmp_path):
    profile = dataclasses.replace(profiles.get("smoke"), dtype=request.param)
    return gpu_trials.Trial("cpu", [L4], tmp_path, profile)


def check(name: str) -> Check:
    (found,) = (check for check in gpu_doctor.CHECKS if check.name == name)
    return found


# ---------------------------------------------------------------- the order of things


def test_a_machine_without_a_card_gets_one_line(monkeypatch, capsys):
    monkeypatch.setattr(profiles, "gpu", lambda: None)
    assert cli.main(["doctor", "--gpu"]) == 1
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "no NVIDIA card" in said
    assert cli.main(["doctor", "--gpu", "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert not result["ok"] and [finding["name"] for finding in result["findings"]] == ["card"]


def test_one_failure_hides_only_what_needs_it(monkeypatch, tmp_path):
    def fails(trial):
        raise RuntimeError("no kernel image is available\nsecond line")

    checks = (
        Check("first", lambda trial: (True, "fine", "")),
        Check("second", fails, ("first",)),
        Check("third", lambda trial: pytest.fail("tried"), ("second",)),
        Check("fourth", lambda trial: pytest.fail("tried"), ("third",)),
        Check("fifth", lambda trial: (True, "fine, too", ""), ("first",)),
    )
    monkeypatch.setattr(gpu_doctor, "CHECKS", checks)
    result = gpu_doctor.examine("cpu")
    assert [finding["ok"] for finding in result["findings"]] == [True, False, False, False, True]
    assert result["findings"][1]["seen"] == "RuntimeError: no kernel image is available"
    assert result["findings"][2]["seen"] == f"{NOT_TRIED}it needs second"
    lines = gpu_doctor.report(result).splitlines()
    assert [line[:3] for line in lines[:2]] == ["ok ", "BAD"]
    assert "---  third: not tried: it needs second" in lines and "not ready" in lines[-1]


def test_what_a_check_needs_is_tried_before_it():
    before = set()
    for each in gpu_doctor.CHECKS:
        assert set(each.needs) <= before
        before.add(each.name)


def test_json_is_one_document_whatever_the_libraries_print(monkeypatch, capsys):
    def talks(trial):
        print("Welcome to a library")
        return True, "fine", ""

    monkeypatch.setattr(gpu_doctor, "CHECKS", (Check("first", talks),))
    monkeypatch.setattr(profiles, "nvidia_cards", lambda: [L4])
    assert cli.main(["doctor", "--gpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"]


# ---------------------------------------------------------------- driver, card, machine


@pytest.mark.parametrize(
    "driver, built, fits",
    [("550.54", "12.6", True), ("550.54", "13.0", False), ("580.65", "13.0", True), ("515.1", "12.6", False)],
)
def test_a_driver_fits_the_build_or_not(monkeypatch, trial, driver, built, fits):
    monkeypatch.setattr(profiles, "built_for", lambda: built)
    trial.cards = [dataclasses.replace(L4, driver=driver)]
    ok, seen, fix = gpu_doctor.driver(trial)
    assert ok == fits and driver in seen and torch.__version__ in seen
    assert fits or "lab.py start --torch" in fix


@pytest.mark.parametrize(
    "found, kernels, ok",
    [
        ((8, 9), ["sm_75", "sm_80", "sm_86", "sm_90"], True),  # a binary for 8.6 runs on 8.9
        ((7, 5), ["sm_75", "sm_80"], True),
        ((12, 0), ["sm_80", "sm_90"], False),
        ((12, 0), ["sm_80", "compute_90"], True),  # translated at the first start
        ((10, 3), ["sm_100", "sm_120"], True),
        ((7, 0), ["sm_50", "sm_60", "sm_70"], False),  # there are kernels, and the course is not for it
    ],
)
def test_a_capability_has_kernels_or_not(found, kernels, ok):
    assert gpu_doctor.capability_seen(found, kernels)[0] == ok


def test_memory_held_by_another_kernel_is_told():
    ok, seen, fix = gpu_doctor.memory_seen(int(9.3 * 2**30), int(14.6 * 2**30))
    assert not ok and "9.3 of 14.6 GiB: another process holds 5.3" in seen
    assert "Shut the other kernel down" in fix
    assert gpu_doctor.memory_seen(int(14.1 * 2**30), int(14.6 * 2**30))[0]


def test_several_cards_are_told_and_several_visible_ones_are_bad():
    assert gpu_doctor.visible_seen(1, 1, "0") == (True, "one", "")
    ok, seen, _ = gpu_doctor.visible_seen(4, 1, "0")
    assert ok and "one of 4: CUDA_VISIBLE_DEVICES=0 is used" in seen
    ok, _, fix = gpu_doctor.visible_seen(4, 2, "0,1")
    assert not ok and "CUDA_VISIBLE_DEVICES=0" in fix


@pytest.mark.parametrize("free, there, ok", [(40, 0, True), (30, 0, False), (22, 14.2, True)])
def test_the_disk_of_the_hubs_cache_counts_and_not_the_courses(monkeypatch, trial, tmp_path, free, there, ok):
    from huggingface_hub import constants

    asked = []
    usage = SimpleNamespace(free=free * 2**30)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "not" / "there" / "yet"))
    monkeypatch.setattr(gpu_doctor.shutil, "disk_usage", lambda place: asked.append(place) or usage)
    monkeypatch.setattr(gpu_doctor, "downloaded_gib", lambda profile, cache: there)
    fine, seen, fix = gpu_doctor.disk(trial)
    assert fine == ok and asked == [tmp_path] and "yet" in seen
    assert "35 GiB" in fix and "HF_HOME" in fix


@pytest.mark.parametrize("missing", ["", "gcc", "Python.h"])
def test_what_triton_compiles_with_is_asked_for(monkeypatch, trial, tmp_path, missing):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(gpu_doctor.platform, "system", lambda: "Linux")
    monkeypatch.setattr(gpu_doctor.shutil, "which", lambda name: None if missing == "gcc" else "/usr/bin/gcc")
    monkeypatch.setattr(gpu_doctor.sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    if missing != "Python.h":
        (tmp_path / "Python.h").write_text("")
    ok, seen, fix = gpu_doctor.compiler(trial)
    assert ok == (not missing) and missing in seen
    assert ok or "apt-get install build-essential python3-dev" in fix


def test_a_profile_that_leaves_the_card_idle_is_bad(monkeypatch, trial):
    monkeypatch.setenv("LAB_PROFILE", "cpu")
    trial.device = "cuda"
    ok, seen, fix = gpu_doctor.profile(trial)
    assert not ok and "leaves the card idle" in seen and "Unset LAB_PROFILE" in fix


# ---------------------------------------------------------------- what computes


@pytest.mark.parametrize("name", SMALL_TRIALS)
def test_what_training_is_made_of_is_right_here_in_every_format(trial, name):
    ok, seen, _ = check(name).look(trial)
    assert ok, seen


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_product_that_is_not_finite_is_bad(monkeypatch, trial, value):
    real = gpu_trials.drawn

    def broken(*arguments, **options):
        numbers = real(*arguments, **options)
        numbers[0, 0] = value
        return numbers

    monkeypatch.setattr(gpu_trials, "drawn", broken)
    assert not check("matrix product").look(trial)[0]


def test_a_head_whose_gradient_is_wrong_is_bad(monkeypatch, trial):
    import trl.kernels

    class Wrong(trl.kernels.ChunkedLogProbFunction):
        @staticmethod
        def backward(ctx, *gradients):
            first, *rest = trl.kernels.chunked_logprob.ChunkedLogProbFunction.backward(ctx, *gradients)
            return first * 1.2, *rest

    monkeypatch.setattr(trl.kernels, "ChunkedLogProbFunction", Wrong)
    assert not check("TRL's output head").look(trial)[0]


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """A trial with a processor's profile that quantises; a function that changes the adapters' format."""
    from labsupport.training import recipe

    profile = dataclasses.replace(profiles.get("smoke"), name="tiny", quantize=True, train_rows=8)
    monkeypatch.setitem(profiles.PROFILES, "tiny", profile)
    monkeypatch.setenv("LAB_PROFILE", "tiny")
    real = recipe.trainer

    def adapters_in(dtype):
        def trainer():
            made = real()
            for parameter in made.model.parameters():
                if parameter.requires_grad:
                    parameter.data = parameter.data.to(dtype)
            return made

        monkeypatch.setattr(recipe, "trainer", trainer)

    found = gpu_trials.Trial("cpu", [L4], tmp_path)
    assert gpu_doctor.profile(found)[0]
    return found, adapters_in


@pytest.mark.slow
def test_the_recipe_on_a_tiny_model_trains_and_resumes_bit_for_bit(tiny):
    trial, _ = tiny
    for name in ("two training steps", "adapters", "resume"):
        ok, seen, _ = check(name).look(trial)
        assert ok, (name, seen)
    assert seen == "bit for bit the run without a break"


@pytest.mark.slow
def test_adapters_in_bfloat16_are_found_and_so_is_a_resume_that_they_spoil(tiny):
    """As TRL leaves the adapters of a quantised model; those of a checkpoint come back in float32."""
    trial, adapters_in = tiny
    adapters_in(torch.bfloat16)
    assert check("two training steps").look(trial)[0]
    assert check("adapters").look(trial)[:2] == (False, "bfloat16")
    ok, seen, _ = check("resume").look(trial)
    assert not ok and "which repeats bit for bit" in seen


@pytest.mark.slow
def test_a_training_without_a_finite_loss_is_bad(monkeypatch, tiny):
    trial, _ = tiny
    real = gpu_trials.tiny_trainer

    def poisoned(trial):
        trainer = real(trial)
        next(p for p in trainer.model.parameters() if p.requires_grad).data[0] = float("nan")
        return trainer

    monkeypatch.setattr(gpu_trials, "tiny_trainer", poisoned)
    assert not gpu_doctor.attempted(check("two training steps"), trial).ok
