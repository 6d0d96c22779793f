"""The stand-in for autocast on meta casts what torch's own casts, on a GPU and on a processor."""

import pytest
import torch

from labsupport.memory import autocasting, stand_ins

functional = torch.nn.functional
PRODUCTS = ["linear", "matmul", "bmm", "addmm"]
IN_32_BITS = ["layer_norm", "pow.Tensor_Scalar", "sum", "sum.dim_IntList", "softmax.int"]


def is_cast(operation: str, device: str) -> bool:
    """Whether torch has a rule for an operation under autocast."""
    key = f"Autocast{device}"
    return torch._C._dispatch_has_kernel_for_dispatch_key(f"aten::{operation}", key)


@pytest.mark.parametrize("operation", [*PRODUCTS, *IN_32_BITS])
def test_torch_has_rules_for_what_is_cast_here(operation):
    assert is_cast(operation, "CUDA")
    assert is_cast(operation, "CPU") == (operation in PRODUCTS)


@pytest.mark.parametrize(
    "operation", ["silu", "gelu", "tanh", "mean.dim", "dropout", "embedding", "_grouped_mm"]
)
def test_and_none_for_what_is_not(operation):
    assert not is_cast(operation, "CUDA")


def results(as_on_gpu: bool) -> list[torch.dtype]:
    narrow = torch.empty(4, 8, dtype=torch.bfloat16, device="meta")
    wide = torch.empty(4, 8, device="meta")
    with stand_ins.in_use("sft", as_on_gpu), autocasting.of_step("meta", True):
        tensors = (
            functional.linear(wide, wide),
            torch.addmm(torch.empty(4, device="meta"), wide, wide.T),
            wide @ narrow.T,
            functional.layer_norm(narrow, (8,), torch.empty(8, dtype=torch.bfloat16, device="meta")),
            torch.pow(narrow, 3.0),
            narrow.pow(2),
            narrow.sum(dim=1),
            functional.softmax(narrow, dim=-1),
            functional.softmax(wide, dim=-1, dtype=torch.bfloat16),
        )
    return [tensor.dtype for tensor in tensors]


def test_what_comes_out_is_in_the_dtype_of_autocast():
    products, explicit = [torch.bfloat16] * 3, [torch.bfloat16]
    assert results(as_on_gpu=True) == [*products, *[torch.float32] * 5, *explicit]
    assert results(as_on_gpu=False) == [*products, *[torch.bfloat16] * 5, *explicit]


def test_without_it_nothing_is_cast():
    narrow = torch.empty(4, 8, dtype=torch.bfloat16, device="meta")
    with stand_ins.in_use("sft"):
        assert functional.layer_norm(narrow, (8,)).dtype == torch.pow(narrow, 2).dtype == torch.bfloat16
    real = torch.ones(4, dtype=torch.bfloat16)
    with stand_ins.in_use("sft"), autocasting.of_step("meta", True):
        assert real.sum().dtype == torch.pow(real, 2).dtype == torch.bfloat16  # not on meta


def test_attention_gets_16_bits_of_a_base_in_32():
    """Else queries, keys and values would be kept twice as wide as a GPU keeps them."""
    assert is_cast("scaled_dot_product_attention", "CUDA")
    query = torch.empty(1, 2, 8, 4, device="meta", requires_grad=True)
    with stand_ins.in_use("sft"):
        attend = functional.scaled_dot_product_attention
        assert attend(query, query, query).dtype == torch.float32
        with autocasting.of_step("meta", True):
            assert attend(query, query, query, is_causal=True).dtype == torch.bfloat16
