"""What autograd keeps, watched: a frozen layer nothing, its adapter the input; a block what is counted."""

import dataclasses

import pytest
import torch
from small_runs import small

from labsupport.memory import watching
from labsupport.planning import closed_form

BYTES = {"float32": 4, "bfloat16": 2}


def test_a_frozen_layer_keeps_its_weight_only_and_an_adapter_keeps_the_input():
    x = torch.ones(1, 3, requires_grad=True)
    weight, a = torch.ones(2, 3), torch.ones(1, 3, requires_grad=True)
    (frozen,) = watching.kept(lambda: x @ weight.T)
    assert frozen.data_ptr() == weight.data_ptr()
    with_adapter = watching.kept(lambda: x @ a.T)
    assert {t.data_ptr() for t in with_adapter} == {x.data_ptr(), a.data_ptr()}


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_a_block_keeps_what_the_closed_form_counts_and_a_number_a_norm(method):
    run = small(method=method, dtype="bfloat16", attention="sdpa", checkpointing=False, padded=False)
    watched = sum(BYTES[dtype] * width * many for (dtype, width), many in watching.kept_by_block(run).items())
    assert watched == closed_form.activation_bytes(run) + 2 * 4


def test_a_padded_block_keeps_keys_and_values_of_every_head_and_its_mask():
    packed = small(dtype="bfloat16", attention="sdpa", padded=False)
    padded = small(dtype="bfloat16", attention="sdpa", padded=True)
    found = [
        sum(BYTES[dtype] * width * many for (dtype, width), many in watching.kept_by_block(run).items())
        for run in (packed, padded)
    ]
    counted = [closed_form.activation_bytes(run) for run in (packed, padded)]
    mask = 2 * watching.ROW  # of each token with each other one, in bfloat16
    assert found[1] - found[0] == counted[1] - counted[0] + mask and counted[1] > counted[0]


@pytest.mark.usefixtures("trl_as_it_is")
@pytest.mark.parametrize("trainer", ["plain", "sft"])
def test_a_real_step_takes_what_the_trace_says(trainer):
    run = small(layers=2, batch=1, length=16, dtype="float32", checkpointing=False, trainer=trainer)
    assert watching.traced_peak(run) == pytest.approx(watching.measured_peak(run), rel=1e-3)


def test_accumulating_adds_the_gradients_once():
    run = small(layers=2, batch=1, length=32, dtype="float32", checkpointing=False)
    one, two, three = (watching.measured_peak(dataclasses.replace(run, accumulation=n)) for n in (1, 2, 3))
    gradients = 4 * closed_form.trainable_parameters(run)
    assert two - one == pytest.approx(gradients, rel=0.1)
    assert three - two == pytest.approx(0, abs=0.1 * gradients)


def test_what_was_freed_on_the_way_does_not_count():
    x = torch.ones(1000, requires_grad=True)

    def forward():
        (x.exp() * 2).sum()  # saves its result, and nothing holds that
        return (x * x).sum()

    assert sum(one.nbytes for one in watching.kept(forward)) == x.nbytes


def test_one_memory_counts_once_and_views_with_it():
    x = torch.ones(1000, requires_grad=True)
    y = 2 * x
    kept = watching.kept(lambda: (y * y).sum() + (y[:10] * y[:10]).sum())
    assert sum(one.untyped_storage().nbytes() for one in kept) == y.nbytes
