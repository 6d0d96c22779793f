"""What an optimizer keeps, and what bitsandbytes pages of it."""

import torch

from labsupport.configs import model_configs
from labsupport.qlora_runs import optimizer_bytes
from labsupport.sizes import counting


def test_bytes_of_the_states_and_what_is_said_on_a_processor():
    shapes, kinds = [(64, 64), (100, 100)], optimizer_bytes.optimizers()
    count = sum(rows * columns for rows, columns in shapes)
    size, said = optimizer_bytes.state_bytes(kinds["adamw_torch"], shapes)
    assert 8 * count <= size <= 8 * count + 100 and said == []  # and a step count for each
    size, said = optimizer_bytes.state_bytes(kinds["adamw_8bit"], shapes)
    assert 2 * count < size < 3 * count and said == []
    size, said = optimizer_bytes.state_bytes(kinds["paged_adamw_8bit"], shapes)
    assert 2 * count < size < 3 * count and said == ["Paged optimizers are not supported on CPU"]


def test_small_tensors_keep_float32_states():
    eight_bit = optimizer_bytes.optimizers()["adamw_8bit"]
    assert optimizer_bytes.state_bytes(eight_bit, [(4095, 1)])[0] == 8 * 4095


def test_adapters_are_those_that_peft_makes():
    config = model_configs.find("llama-3.1-8b")
    sizes = [rows * columns for rows, columns in optimizer_bytes.adapter_shapes(config, 16)]
    assert sum(sizes) == counting.lora_count(config, 16)


def test_bitsandbytes_pages_from_that_size_on(monkeypatch):
    """The library's own choice, asked on the meta device, where no memory is taken."""
    from bitsandbytes import functional
    from bitsandbytes.optim import PagedAdamW8bit

    asked = []
    monkeypatch.setattr(
        functional, "get_paged", lambda *shape, **kwargs: asked.append(shape) or torch.zeros(1)
    )
    monkeypatch.setattr(functional, "fill", lambda *arguments: None)
    optimizer = PagedAdamW8bit([torch.nn.Parameter(torch.zeros(1))])
    for size in (optimizer_bytes.PAGED_FROM - 1, optimizer_bytes.PAGED_FROM):
        optimizer.get_state_buffer(torch.empty(size, device="meta"))
    assert asked == [(optimizer_bytes.PAGED_FROM,)]


def test_which_share_can_page():
    config = dict(model_configs.find("llama-3.1-8b"))
    # Of a block's seven adapters only those on the MLP's width, 14,336, reach 100,000 numbers at rank 16.
    paged, all_of_them = 3 * 16 * 14_336, counting.lora_count(config, 16) // config["num_hidden_layers"]
    assert optimizer_bytes.pageable(config, 16) == paged / all_of_them
    assert optimizer_bytes.pageable(config, 4) == 0
