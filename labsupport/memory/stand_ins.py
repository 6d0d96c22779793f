"""Stand-ins for private parts of the libraries that cannot run without data, while a step is traced.

tests/memory/test_stand_ins.py shows of each that it is still needed, and that none is left behind.
"""

from __future__ import annotations

import contextlib
import sys
import types

import torch

from labsupport.configs import architectures
from labsupport.memory import autocasting, paged


@contextlib.contextmanager
def in_use(trainer: str = "plain", as_on_gpu: bool = True, autocast: bool | None = None):
    """The stand-ins serve inside, for what is on the meta device; all is put back at the end.

    trainer: "sft" for what TRL's step needs besides. as_on_gpu: dropout, autocast and TRL's fused head, which
    differ, as on a GPU; else as on a processor. autocast: with what may be cast in a plain loop, too.
    """
    import bitsandbytes.functional
    import bitsandbytes.nn
    import peft.utils.transformers_weight_conversion as conversion
    import transformers.masking_utils as masks

    places = [
        # Reads the positions to see whether documents are packed: there are none to read.
        (masks, "find_packed_sequence_indices", lambda positions: None),
        # Asks whether the mask hides anything: a padded batch's does.
        (masks, "fast_all", lambda mask: False),
        # On the meta device torch takes the path that holds the whole length x length matrix.
        (torch.nn.functional, "scaled_dot_product_attention", fused_attention),
        # DoRA copies the layer to read its weights; the copy of a 4-bit weight fails without data.
        (bitsandbytes.nn.Params4bit, "__deepcopy__", lambda weight, memo: weight),
        # Rules for checkpoints of older releases: there are none, and to read them takes long.
        (conversion, "get_model_conversion_mapping", lambda model: []),
        # Experts' names in older releases: not looked for in models that have none, for that takes long.
        (conversion, "convert_peft_config_for_transformers", names_of_experts(conversion)),
    ]
    if as_on_gpu:
        places.append((torch.nn.functional, "dropout", dropout_of_a_gpu(torch.nn.functional.dropout)))
    places = [(owner, name, _on_meta_only(new, getattr(owner, name))) for owner, name, new in places]
    places += [*paged.stand_ins(bitsandbytes.functional), adapted_experts()]
    if trainer == "sft":
        places += [fused_adamw(), *(fused_head_of_a_gpu() if as_on_gpu else [])]
    if trainer == "sft" or autocast:  # TRL's head asks about autocast in any case
        places += autocasting.stand_ins(as_on_gpu)
    before = [(owner, name, getattr(owner, name, None)) for owner, name, _ in places]
    # bitsandbytes keeps its 8-bit code from the first use on: one without data would break real 4 bits later.
    codes = bitsandbytes.functional.name2qmap
    known = dict(codes)
    pages = bitsandbytes.functional.GlobalPageManager.get_instance().paged_tensors
    try:
        for owner, name, new in places:
            setattr(owner, name, new)
        yield
    finally:
        for owner, name, old in before:
            setattr(owner, name, old) if old is not None else delattr(owner, name)
        codes.clear()
        codes.update(known)
        pages[:] = [page for page in pages if not hasattr(page, "without_data")]


def _on_meta_only(stand_in, real):
    """The stand-in for what is on the meta device only: a training may run in another thread meanwhile."""

    def either(first, *args, **options):
        of = options.get("model", first)
        chosen = stand_in if of.device.type == "meta" else real
        return chosen(first, *args, **options)

    return either


def names_of_experts(conversion):
    """PEFT's own rule for the targets of models with experts; nothing for others."""
    real = conversion.convert_peft_config_for_transformers

    def convert(config, model, conversions):
        if model.config.model_type in architectures.EXPERT_TARGETS:
            real(config, model=model, conversions=conversions)

    return convert


def adapted_experts() -> tuple:
    """Experts with their adapters' product added, outside autocast, which torch does not know for meta."""
    import peft.tuners.lora.layer as layers

    real = layers._LoraFactorsProxy.forward

    def forward(proxy, weight):
        if weight.device.type != "meta":
            return real(proxy, weight)
        return torch.baddbmm(weight, proxy.lhs, proxy.rhs, alpha=proxy.scaling)

    return layers._LoraFactorsProxy, "forward", forward


def dropout_of_a_gpu(real):
    """dropout as a GPU does it: a mask of one byte a number is kept (ATen, Dropout.cpp); on meta torch takes
    the way of the processor, whose mask is of the numbers' own type."""

    def dropout(tensor, p=0.5, training=True, inplace=False):
        if not training or p == 0 or inplace:
            return real(tensor, p, training, inplace)
        return torch.native_dropout(tensor, p, True)[0]

    return dropout


def fused_adamw() -> tuple:
    """The fused AdamW works in place; on meta torch refuses to begin."""
    adam = sys.modules[torch.optim.Adam.__module__]
    return adam, "_device_dtype_check_for_fused", lambda *arguments, **options: None


def fused_head_of_a_gpu() -> list[tuple]:
    """What makes TRL's fused head do on meta what it does on a GPU: Triton kernels, which work in place and
    allocate nothing; products summed in float32 without a copy of their factors."""
    import trl.kernels.chunked_logprob as head
    import trl.trainer.utils as utils

    def on_gpu(device):
        return device.type == "meta" or real(device)

    def add_product(into, a, b):
        into.add_(0) if into.device.type == "meta" else add(into, a, b)

    real, add = head._use_triton, head._addmm_fp32
    return [
        (utils, "_use_triton", on_gpu),
        (head, "_use_triton", on_gpu),
        (head, "_forward_kernel", Kernel(head._forward_kernel)),
        (head, "_backward_kernel", Kernel(head._backward_kernel)),
        (head, "_addmm_fp32", add_product),
        (head, "triton", types.SimpleNamespace(cdiv=lambda a, b: -(-a // b))),
    ]


class Kernel:
    """A Triton kernel that does nothing to what is on the meta device."""

    def __init__(self, real):
        self.real = real

    def __getitem__(self, grid):
        def launch(first, *arguments, **options):
            if first.device.type != "meta":
                self.real[grid](first, *arguments, **options)

        return launch


def fused_attention(
    query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False
):
    """Stands for scaled_dot_product_attention on a GPU: allocates what its fused kernels allocate."""
    if autocasting.is_on():
        query, key, value = map(autocasting.cast, (query, key, value))
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        # Each call makes its own additive mask (ATen, convert_boolean_attn_mask).
        bias = torch.zeros_like(attn_mask, dtype=query.dtype)
        attn_mask = bias.masked_fill_(attn_mask.logical_not(), float("-inf"))
    return FusedAttention.apply(query, key, value, attn_mask)


class FusedAttention(torch.autograd.Function):
    """The allocations of FlashAttention-2 (no mask, 16 bits) and of the memory-efficient kernel (else).

    Shapes [batch, heads, length, head size]. Forward: the output and float32 log-sums. Backward: the
    gradients, a float32 accumulator for the queries', and under grouped heads the expanded dk and dv.
    """

    @staticmethod
    def forward(ctx, query, key, value, mask):
        batch, heads, length, size = query.shape
        output = query.new_empty(batch, length, heads, size).transpose(1, 2)
        log_sums = query.new_empty(batch, heads, length, dtype=torch.float32)
        ctx.save_for_backward(query, key, value, mask, output, log_sums)
        return output

    @staticmethod
    def backward(ctx, gradient):
        query, key, value, mask, output, log_sums = ctx.saved_tensors
        batch, heads, length, size = query.shape
        d_query, d_key, d_value = (torch.empty_like(tensor) for tensor in (query, key, value))
        scratch = [torch.empty_like(log_sums), query.new_empty(query.shape, dtype=torch.float32)]
        if key.shape[1] != heads:
            scratch += [key.new_empty(query.shape), value.new_empty(query.shape)]
        return d_query, d_key, d_value, None
