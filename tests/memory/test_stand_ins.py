"""The stand-ins for private library parts: each is still needed, and none is left behind."""

import copy
from unittest import mock

import peft.utils.transformers_weight_conversion as conversion
import pytest
import torch
from bitsandbytes.functional import name2qmap, quantize_4bit
from bitsandbytes.nn import Linear4bit, Params4bit
from small_runs import small
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import masking_utils

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


def test_patches_are_taken_back():
    def parts():
        function = torch.nn.functional.scaled_dot_product_attention
        masks = (masking_utils.find_packed_sequence_indices, masking_utils.fast_all)
        return (*masks, function, Params4bit.__deepcopy__)

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
