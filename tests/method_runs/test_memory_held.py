"""What is kept for a backward pass: all that is there when the forward pass has returned, and no more."""

import torch

from labsupport.method_runs import memory_held


def test_what_was_freed_on_the_way_does_not_count():
    x = torch.ones(1000, requires_grad=True)

    def forward():
        (x.exp() * 2).sum()  # saves its result, and nothing holds that
        return (x * x).sum()

    assert sum(memory_held.kept(forward).values()) == x.nbytes


def test_one_memory_counts_once_and_views_with_it():
    x = torch.ones(1000, requires_grad=True)
    y = 2 * x

    assert sum(memory_held.kept(lambda: (y * y).sum() + (y[:10] * y[:10]).sum()).values()) == y.nbytes


def test_dora_keeps_more_than_lora_and_lora_trains_what_it_should():
    lora, dora = (memory_held.held(method) for method in ("lora", "dora"))
    assert dora["kept"] > 1.5 * lora["kept"]
    assert lora["trained"] == 217_088 and lora["optimizer"] == 12 * 217_088
