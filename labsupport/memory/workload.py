"""Model, adapters, optimizer and one training step, as a learner would write them, on any device."""

from __future__ import annotations

import torch
from bitsandbytes.nn import Linear4bit
from bitsandbytes.optim import AdamW8bit
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoConfig, AutoModelForCausalLM

from labsupport.core import dtypes
from labsupport.memory import trainer_step
from labsupport.memory.setup import Setup


def build_model(setup: Setup, depth: int, device: str = "meta") -> torch.nn.Module:
    """The model of a setup with `depth` layers, ready to train. Random weights, or none on meta.

    4-bit methods quantise every linear layer inside the blocks; embeddings and head keep the dtype.
    """
    config = dict(setup.config, num_hidden_layers=depth)
    config.pop("layer_types", None)  # follows from the depth
    config.pop("quantization_config", None)
    config = AutoConfig.for_model(**config)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(
            config, dtype=getattr(torch, dtypes.find(setup.dtype).name), attn_implementation=setup.attention
        )
    if setup.four_bit:
        put_linear_layers_in_nf4(model, setup.doubly_quantized, device)
    if setup.kbit_preparation:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    if setup.checkpointing:
        model.config.use_cache = False  # layers that are run twice cannot fill one
        model.activation_checkpointing_enable()
    model = with_adapters(model, setup) if setup.method != "full" else model
    return (trainer_step.prepare(model, setup) if setup.trainer == "sft" else model).train()


def put_linear_layers_in_nf4(model, double: bool, device: str) -> None:
    """Replace the linear layers of the blocks by NF4 ones, in place, as load_in_4bit does."""
    for name, old in list(model.named_modules()):
        if not isinstance(old, torch.nn.Linear) or ".layers." not in name:
            continue
        has_bias = old.bias is not None
        new = Linear4bit(
            old.in_features,
            old.out_features,
            bias=has_bias,
            compute_dtype=old.weight.dtype,
            compress_statistics=double,
            quant_type="nf4",
            device=device,
        )
        new.weight.data = old.weight.data
        new.weight._quantize(device)
        if has_bias:
            new.bias = old.bias
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, new)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.is_loaded_in_4bit = model.is_quantized = True


def with_adapters(model, setup: Setup):
    """The PEFT model of the setup; adapters in float32, PEFT's default on a 16-bit or 4-bit base."""
    targets = setup.targets if setup.targets == "all-linear" else list(setup.targets)
    lora = LoraConfig(
        r=setup.rank,
        lora_alpha=2 * setup.rank,
        target_modules=targets,
        use_rslora=setup.method == "rslora",
        use_dora=setup.method.endswith("dora"),
        task_type="CAUSAL_LM",
    )
    with torch.device(model.device):  # else adapters are made, and filled, on the CPU first
        return get_peft_model(model, lora)


def trainable_parameters(model) -> list[torch.nn.Parameter]:
    """The parameters that get gradients."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def optimizer_for(setup: Setup, parameters) -> torch.optim.Optimizer:
    """AdamW: in a plain loop with foreach=True, what torch picks on a GPU; fused, the trainer's default; or
    bitsandbytes' 8-bit one."""
    if setup.optimizer == "adamw_8bit":
        return AdamW8bit(parameters)
    return torch.optim.AdamW(parameters, **{"fused" if setup.trainer == "sft" else "foreach": True})


def supervised_tokens(setup: Setup, length: int) -> int:
    """How many of a row's tokens are trained on."""
    return max(1, round(setup.supervised * length))


def batch_for(setup: Setup, device: str = "meta", share: float = 1.0) -> dict[str, torch.Tensor]:
    """input_ids and labels, int64 [batch, share of the length]; a mask that hides something if padded."""
    shape = (setup.batch, max(1, round(setup.length * share)))
    ids = torch.zeros(shape, dtype=torch.int64, device=device)
    labels = ids.clone()
    labels[:, : shape[1] - supervised_tokens(setup, shape[1])] = -100
    batch = {"input_ids": ids, "labels": labels}
    if setup.padded:
        mask = torch.ones(shape, dtype=torch.int64, device=device)
        mask[0, -1] = 0
        batch["attention_mask"] = mask
    return batch


def training_step(
    setup: Setup, model, batches: list[dict], optimizer, held: list, enter=lambda phase: None
) -> None:
    """One optimizer step over its micro-batches, as the setup's trainer takes it. A plain loop drops its
    gradients before the forward pass, and `held` keeps its outputs, as its variable does; TRL does not."""
    plain = setup.trainer == "plain"
    enter("forward")
    if plain:
        optimizer.zero_grad()
    for batch in batches:
        enter("forward")
        if plain:
            held[:] = [model(**batch)]
            (held[0].loss / len(batches)).backward()
        else:
            trainer_step.forward_and_backward(model, batch)
    enter("optimizer")
    torch.nn.utils.clip_grad_norm_(trainable_parameters(model), 1.0, foreach=False)
    optimizer.step()
    if not plain:
        model.zero_grad()
