"""The stand-ins for private library parts: each is still needed, and none is left behind."""

import copy
import dataclasses
from unittest import mock

import peft.utils.transformers_weight_conversion as conversion
import pytest
import torch
from bitsandbytes import functional
from bitsandbytes.functional import name2qmap, quantize_4bit
from bitsandbytes.nn import Linear4bit, Params4bit
from bitsandbytes.optim import GlobalOptimManager, PagedAdamW8bit, PagedAdamW32bit
from peft.tuners.lora import layer
from small_runs import small
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import masking_utils

from labsupport.allocations import streams
from labsupport.memory import stand_ins, tracing, workload


def test_positions_are_still_read_to_find_packed_documents():
    with pytest.raises(RuntimeError, match="meta"):
        masking_utils.find_packed_sequence_indices(torch.zeros(1, 4, dtype=torch.long, device="meta"))


def test_a_mask_is_still_read_to_see_whether_it_hides_anything():
    with pytest.raises(RuntimeError, match="meta"):
        bool(masking_utils.fast_all(torch.ones(1, 4, dtype=torch.bool, device="meta")))


def test_attention_on_meta_still_makes_the_square_matrix():
    query = torch.empty(1, 1, 64, 8, device="meta", requires_grad=True)

    def biggest() -> int:
        recorder = tracing.Recorder(1, 0)
        with recorder:
            torch.nn.functional.scaled_dot_product_attention(query, query, query, is_causal=True)
        return max(block.bytes for block in recorder.stream.blocks.values())

    assert biggest() >= 64 * 64 * 4
    with stand_ins.in_use():
        assert biggest() < 64 * 64 * 4


def test_a_4_bit_weight_on_meta_still_cannot_be_deep_copied():
    layer = Linear4bit(64, 64, bias=False, quant_type="nf4", device="meta")
    layer.weight._quantize("meta")
    with pytest.raises(RuntimeError):
        copy.deepcopy(layer.weight)
    with stand_ins.in_use():
        copy.deepcopy(layer.weight)


def test_peft_still_reads_rules_for_older_adapters_and_a_trace_does_without(monkeypatch):
    read = mock.Mock(wraps=conversion.get_model_conversion_mapping)
    monkeypatch.setattr(conversion, "get_model_conversion_mapping", read)
    usual = parameters(workload.build_model(small(method="dora"), 2))
    assert read.called and usual["device"] == {"meta"}
    read.reset_mock()
    with stand_ins.in_use():
        assert parameters(workload.build_model(small(method="dora"), 2)) == usual
    assert not read.called


def parameters(model) -> dict:
    named = dict(model.named_parameters())
    told = {name: (tuple(p.shape), p.dtype, p.requires_grad) for name, p in named.items()}
    return told | {"device": {p.device.type for p in named.values()}}


def test_the_4_bit_product_still_hides_its_weight_and_the_recorder_shows_it():
    layer = Linear4bit(64, 128, bias=False, quant_type="nf4", device="meta", compute_dtype=torch.float32)
    layer.weight._quantize("meta")
    recorder = tracing.Recorder(1, 0)
    with recorder:
        layer(torch.empty(2, 64, device="meta"))
    assert 64 * 128 * 4 in {block.bytes for block in recorder.stream.blocks.values()}
    assert recorded_sizes_without_routing(layer) == {2 * 128 * 4}


def recorded_sizes_without_routing(layer) -> set[int]:
    """The same product, seen by a plain mode: only its result shows."""
    sizes = set()

    class Plain(TorchDispatchMode):
        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            result = operation(*args, **(kwargs or {}))
            if "gemm_4bit" in str(operation):
                sizes.add(result.untyped_storage().nbytes())
            return result

    with Plain():
        layer(torch.empty(2, 64, device="meta"))
    return sizes


def test_bitsandbytes_still_keeps_a_code_without_data_and_tracing_takes_it_away():
    name2qmap.clear()
    with stand_ins.in_use():
        quantize_4bit(torch.empty(64, 64, device="meta"), quant_type="nf4", compress_statistics=True)
        assert name2qmap["dynamic"].device.type == "meta"
    assert not name2qmap
    quantize_4bit(torch.randn(64, 64), quant_type="nf4", compress_statistics=True)


def sizes_of(act) -> list[int]:
    """Bytes of each new tensor on meta while act() runs."""
    recorder = tracing.Recorder(1, 0)
    with recorder:
        act()
    return [block.bytes for block in recorder.stream.blocks.values()]


def test_dropout_on_meta_still_goes_the_processors_way():
    x = torch.empty(256, dtype=torch.bfloat16, device="meta")
    drop = torch.nn.functional.dropout
    assert sizes_of(lambda: drop(x, 0.1)) == [512, 512]  # mask and product
    with stand_ins.in_use():
        drop = torch.nn.functional.dropout
        assert sorted(sizes_of(lambda: drop(x, 0.1))) == [256, 512]
        assert drop(x, 0.0) is drop(x, 0.1, training=False) is x
        assert drop(torch.ones(4), 1.0).sum() == 0  # a real one as ever
    with stand_ins.in_use(as_on_gpu=False):
        assert torch.nn.functional.dropout is not drop
        assert sizes_of(lambda: torch.nn.functional.dropout(x, 0.1)) == [512, 512]


def paged(optimizer=PagedAdamW8bit, numbers=200_000):
    """An optimizer with a step behind it, on meta."""
    weight = torch.nn.Parameter(torch.empty(numbers, device="meta"))
    weight.grad = torch.empty_like(weight)
    found = optimizer([weight])
    found.step()
    return found


def test_paged_states_still_need_cuda_and_on_meta_they_take_nothing():
    with pytest.raises((AttributeError, RuntimeError)):
        paged()
    pages = functional.GlobalPageManager.get_instance().paged_tensors
    before = len(pages)
    with stand_ins.in_use():
        for kind, dtype in ((PagedAdamW8bit, torch.uint8), (PagedAdamW32bit, torch.float32)):
            (states,) = paged(kind).state.values()
            for name in ("state1", "state2"):
                assert states[name].is_paged and states[name].dtype == dtype
                assert states[name].shape == (200_000,) and states[name].untyped_storage().nbytes() <= 4
        (small_states,) = paged(numbers=90_000).state.values()
        assert small_states["state1"].device.type == "meta"  # small ones are usual tensors
    assert len(pages) == before


def test_only_states_that_are_not_paged_are_in_the_trace():
    setup = small(method="full", checkpointing=True)
    both = {
        name: tracing.record_steps(dataclasses.replace(setup, optimizer=name), 2)[0]
        for name in ("adamw_8bit", "paged_adamw_8bit")
    }
    usual, without = (streams.peak(stream).split["optimizer"] for stream in both.values())
    assert without < 0.05 * usual


def test_the_trainer_keeps_float32_states_of_embeddings():
    """transformers' own rule, on a real model."""
    setup = small(2, method="full", optimizer="adamw_8bit", trainer="sft")
    with stand_ins.in_use("sft"):
        model = workload.build_model(setup, 2)
        optimizer = workload.optimizer_for(setup, model)
        for parameter in model.parameters():
            parameter.grad = torch.empty_like(parameter)
        optimizer.step()
    dtypes = {name: optimizer.state[p]["state1"].dtype for name, p in model.named_parameters()}
    assert dtypes["model.embed_tokens.weight"] == torch.float32
    assert dtypes["model.layers.0.mlp.up_proj.weight"] == torch.uint8
    manager = GlobalOptimManager.get_instance()
    assert not manager.pid2config and optimizer.mng is not manager


def test_adapted_experts_still_ask_for_an_autocast_that_meta_has_not():
    proxy = layer._LoraFactorsProxy(*(torch.empty(2, 4, 4, device="meta"),) * 2, 1.0)
    weight = torch.empty(2, 4, 4, device="meta")
    with pytest.raises(RuntimeError):
        proxy(weight)
    with stand_ins.in_use():
        assert proxy(weight).shape == (2, 4, 4)
        real = layer._LoraFactorsProxy(torch.ones(1, 2, 3), torch.ones(1, 3, 2), 2.0)
        assert torch.equal(real(torch.zeros(1, 2, 2)), torch.full((1, 2, 2), 6.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_grouped_product_on_meta_is_still_for_bfloat16_alone(dtype):
    rows, experts = torch.empty(6, 16, dtype=dtype), torch.empty(2, 16, 8, dtype=dtype)
    ends = torch.tensor([2, 6], dtype=torch.int32)
    rows, experts, ends = (tensor.to("meta") for tensor in (rows, experts, ends))
    with pytest.raises(RuntimeError, match="BF16"):
        torch.nn.functional.grouped_mm(rows, experts, offs=ends)
    size = 6 * 8 * dtype.itemsize
    assert sizes_of(lambda: torch.nn.functional.grouped_mm(rows, experts, offs=ends)) == [size]


def test_patches_are_taken_back():
    def parts():
        functions = (torch.nn.functional.scaled_dot_product_attention, torch.nn.functional.dropout)
        masks = (masking_utils.find_packed_sequence_indices, masking_utils.fast_all)
        paged = (functional.get_paged, functional.fill, functional.prefetch_tensor)
        return (*masks, *functions, *paged, Params4bit.__deepcopy__, layer._LoraFactorsProxy.forward)

    before = parts()
    with pytest.raises(ZeroDivisionError), stand_ins.in_use():
        assert all(new is not old for new, old in zip(parts(), before, strict=True))
        raise ZeroDivisionError
    assert parts() == before


def test_a_trace_leaves_real_attention_alone():
    """A learner may press Trace while a training runs in another thread."""
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 1, 2, 5, 8)
    attend = torch.nn.functional.scaled_dot_product_attention
    expected = attend(query, key, value, is_causal=True)
    with stand_ins.in_use():
        assert torch.nn.functional.scaled_dot_product_attention is not attend
        assert torch.equal(
            torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True), expected
        )
    assert torch.nn.functional.scaled_dot_product_attention is attend
