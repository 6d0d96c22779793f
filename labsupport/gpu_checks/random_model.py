"""A model of a stated shape with random weights, made on the card one by one.

So no download is needed, and of a model in 4 bits the 16-bit weights are never there all at once, as they are
not where transformers loads one. Its own quantizer replaces the layers (BitsAndBytesConfig: NF4, double
quantisation), PEFT adds the adapters.
"""

from __future__ import annotations

import torch
from accelerate import init_empty_weights
from bitsandbytes.nn import Params4bit
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from transformers.quantizers import AutoHfQuantizer

from labsupport.core import dtypes, upstream
from labsupport.memory import workload
from labsupport.setups.setup import Setup

DEVIATION = 0.02  # of the weights, as Llama's are before training


def build(setup: Setup, device: str) -> torch.nn.Module:
    """The setup's model on the device, in training mode, with adapters if it has any.

    It is what a plain loop trains, and what SFTTrainer is given: that casts adapters and switches
    checkpointing on itself.
    """
    dtype = getattr(torch, dtypes.find(setup.dtype).name)
    config = workload.library_config(setup.config, setup.config["num_hidden_layers"])
    with init_empty_weights(include_buffers=False):  # buffers hold numbers that nobody draws
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=setup.attention)
    model.tie_weights()
    if setup.four_bit:
        upstream.guard_4bit_on_cpu()
        quantizer = AutoHfQuantizer.from_config(nf4(dtype))
        quantizer.preprocess_model(model, device_map=None)
        fill(model, dtype, device)
        quantizer.postprocess_model(model)
        model.hf_quantizer = quantizer
    else:
        take_one_block(model, dtype, device)
        fill(model, dtype, device)
    if (
        setup.checkpointing and setup.trainer == "plain"
    ):  # before PEFT, which then lets gradients into the blocks
        model.config.use_cache = False
        model.activation_checkpointing_enable()
    return (workload.with_adapters(model, setup) if setup.method != "full" else model).train()


def nf4(compute: torch.dtype) -> BitsAndBytesConfig:
    """QLoRA's quantisation."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )


def take_one_block(model, dtype: torch.dtype, device: str) -> None:
    """Let the allocator reserve the weights in one block, as transformers does before it loads a model that
    it does not quantise (modeling_utils.caching_allocator_warmup)."""
    if device == "cuda":
        count = sum(parameter.numel() for parameter in model.parameters())
        torch.empty(count, dtype=dtype, device=device)


def fill(model, dtype: torch.dtype, device: str) -> None:
    """Put random weights in the place of empty ones, tied ones once, and the buffers on the device."""
    made = {}  # an empty one's id: itself, lest another gets its id, and what takes its place
    for module in model.modules():
        for name, empty in list(module.named_parameters(recurse=False)):
            if id(empty) not in made:
                made[id(empty)] = (empty, random_weight(empty, dtype, device))
            module.register_parameter(name, made[id(empty)][1])
        for name, buffer in list(module.named_buffers(recurse=False)):
            setattr(module, name, buffer.to(device))


def random_weight(empty: torch.nn.Parameter, dtype: torch.dtype, device: str) -> torch.nn.Parameter:
    """A weight of the empty one's shape: ones for a norm, else normal numbers; quantised if that is asked."""
    values = torch.empty(empty.shape, dtype=dtype, device=device)
    values = values.fill_(1) if values.dim() == 1 else values.normal_(0, DEVIATION)
    if isinstance(empty, Params4bit):  # as transformers' Bnb4bitQuantize does it
        return Params4bit(values, requires_grad=False, **empty.__dict__).to(device)
    return torch.nn.Parameter(values, requires_grad=empty.requires_grad)
