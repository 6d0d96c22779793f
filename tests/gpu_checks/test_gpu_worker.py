"""The worker, rehearsed on the processor: a made-up shape, a few steps."""

import dataclasses

import pytest

from labsupport.configs import model_configs
from labsupport.gpu_checks import random_model, running, worker
from labsupport.memory import watching, workload
from labsupport.setups.setup import Setup, checked


def tiny(method: str, trainer: str, **options) -> Setup:
    config = dict(model_configs.OWN_HEAD_DIM)
    return checked(Setup(config, method, rank=4, batch=2, length=16, trainer=trainer, **options))


@pytest.mark.parametrize(
    ("method", "trainer", "dtypes"),
    [
        ("lora", "plain", ["float32"]),
        ("full", "plain", ["bfloat16"]),
        ("lora", "sft", ["float32"]),
        ("full", "sft", ["bfloat16"]),
        ("qlora", "plain", ["float32"]),
        ("qlora", "sft", ["bfloat16"]),
        ("dora", "sft", ["float32"]),
    ],
)
def test_a_setting_trains_and_says_in_what(method, trainer, dtypes):
    setup = tiny(method, trainer)
    found = worker.outcome(setup, "cpu")
    assert found["outcome"] == "done", found
    assert found["trained_in"] == dtypes
    assert method == "full" or dtypes == [setup.adapters_in]  # what is planned beside it
    assert 0.5 < found["loss"] / 6.2146 < 1.5  # random weights guess among 500 words: log 500
    assert found["measured"]["tokens_a_second"] > 0
    assert {found["measured"][name] for name in ("allocated_gib", "reserved_gib", "outside_torch_gib")} == {
        None
    }


@pytest.mark.parametrize("method", ["full", "qlora", "dora"])
def test_the_model_holds_what_the_planners_does(method):
    setup = tiny(method, "plain")
    held = [
        sum(watching.held_bytes(model).values())
        for model in (random_model.build(setup, "cpu"), workload.build_model(setup, 3, "cpu"))
    ]
    assert held[0] == held[1]


def test_tied_weights_stay_tied_and_no_weight_is_left_empty():
    config = model_configs.OWN_HEAD_DIM | {"tie_word_embeddings": True}
    model = random_model.build(checked(Setup(config, "full", trainer="plain")), "cpu")
    assert model.lm_head.weight is model.get_input_embeddings().weight
    tensors = [*model.parameters(), *model.buffers()]
    assert {tensor.device.type for tensor in tensors} == {"cpu"}


def test_rows_are_such_that_each_batchs_mask_hides_something():
    rows = worker.random_rows(tiny("lora", "sft"), steps=3)
    assert [len(row) for row in rows["input_ids"]] == [7, 8, 15, 16, 15, 16]
    assert rows["labels"] == rows["input_ids"]


def test_out_of_memory_and_other_failures_are_answers(monkeypatch):
    import torch

    def end(error):
        def build(setup, device):
            raise error

        monkeypatch.setattr(random_model, "build", build)
        return worker.outcome(tiny("lora", "plain"), "cpu")

    full = end(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nstack"))
    assert full["outcome"] == "out of memory" and "stack" not in full["said"] and "2 GiB" in full["said"]
    broken = end(RuntimeError("cannot run /usr/local/secret/gcc"))
    assert broken == {"outcome": "failed", "said": "RuntimeError: cannot run gcc"}


def test_a_loss_that_is_no_number_is_a_failure(monkeypatch):
    monkeypatch.setattr(worker, "plain_steps", lambda *arguments: float("nan"))
    assert worker.outcome(tiny("full", "plain"), "cpu")["outcome"] == "failed"


def test_a_setting_runs_in_a_process_of_its_own():
    setup = dataclasses.asdict(tiny("full", "plain"))
    found = running.in_own_process({"ask": "setting", "setup": setup, "device": "cpu"})
    assert found["outcome"] == "done" and found["trained_in"] == ["bfloat16"]


def test_a_process_that_dies_or_hangs_is_a_failure(monkeypatch):
    job = {"ask": "setting", "setup": {"config": {"model_type": "none"}}, "device": "cpu"}
    dead = running.in_own_process(job)
    assert dead["outcome"] == "failed" and "ended with 1" in dead["said"]
    monkeypatch.setattr(running, "MOST_SECONDS", 0.01)
    assert "no answer within" in running.in_own_process(job)["said"]


def test_the_worker_sees_one_card_and_the_allocators_defaults(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,4")
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    found = running.environment()
    assert found["CUDA_VISIBLE_DEVICES"] == "3" and "PYTORCH_CUDA_ALLOC_CONF" not in found
    assert found["HF_HUB_OFFLINE"] == "1"
