"""Model, adapters, optimizer and one training step, as a learner would write them, on any device."""

from __future__ import annotations

import dataclasses
import warnings

import torch
from bitsandbytes.nn import Linear4bit
from bitsandbytes.optim import AdamW8bit, PagedAdamW8bit, PagedAdamW32bit
from huggingface_hub.errors import StrictDataclassError
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.base import get_keys_to_not_convert
from transformers.quantizers.quantizers_utils import should_convert_module

from labsupport.configs import architectures, rope
from labsupport.core import dtypes
from labsupport.core.files import LabError
from labsupport.memory import autocasting, trainer_step
from labsupport.models import casting
from labsupport.setups.setup import Setup

# Read by transformers where they are given, though its classes do not declare them.
UNDECLARED = {"model_type", "head_dim", "rope_theta", "rope_local_base_freq", "partial_rotary_factor"}
BITSANDBYTES = {
    "adamw_8bit": AdamW8bit,
    "paged_adamw_8bit": PagedAdamW8bit,
    "paged_adamw": PagedAdamW32bit,
}


def build_model(setup: Setup, depth: int, device: str = "meta") -> torch.nn.Module:
    """The model of a setup with `depth` layers, ready to train. Random weights, or none on meta.

    4-bit methods quantise every linear layer inside the blocks; embeddings and head keep the dtype.
    """
    config = library_config(setup.config, depth)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(
            config, dtype=getattr(torch, dtypes.find(setup.dtype).name), attn_implementation=setup.attention
        )
    if setup.four_bit:
        put_linear_layers_in_nf4(model, setup.doubly_quantized, device)
    if setup.kbit_preparation:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
        if setup.trainer == "plain" and setup.autocasts:  # as TRL had it until it made no logits
            for outside in (model.get_input_embeddings(), model.get_output_embeddings()):
                outside.to(torch.bfloat16)
    if setup.checkpointing:
        model.config.use_cache = False  # layers that are run twice cannot fill one
        model.activation_checkpointing_enable()
    if setup.method != "full":
        model = with_adapters(model, setup)
        if setup.adapters_in != "float32":  # TRL leaves DoRA's magnitudes out
            casting.cast_trained(model, torch.bfloat16, but="lora_magnitude_vector")
    return (trainer_step.prepare(model, setup) if setup.trainer == "sft" else model).train()


def library_config(config: dict, depth: int) -> PreTrainedConfig:
    """transformers' object for the first `depth` layers of a checked configuration. LabError, in its own
    words, for what it refuses."""
    try:
        return AutoConfig.for_model(**shallow_config(config, depth))
    except (StrictDataclassError, ValueError, TypeError, KeyError) as error:
        said = str(error).strip().splitlines()[-1].strip().removesuffix(".")
        raise LabError(
            f"transformers refuses the model's configuration: {said}. Correct the file."
        ) from error


def shallow_config(config: dict, depth: int) -> dict:
    """A checked configuration cut to the first `depth` layers, as transformers takes it."""
    # Ids of tokens change nothing, and transformers' own may lie outside a small vocabulary.
    config = rope.plain(config) | dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"))
    config["num_hidden_layers"] = depth
    known = fields_of(config["model_type"])
    config = {name: value for name, value in config.items() if name in known}
    for name in ("layer_types", "no_rope_layers"):  # one entry a layer
        if name in config:
            config[name] = config[name][:depth]
    if config["model_type"] == "falcon":
        config.pop("head_dim")  # it works that out itself, and refuses to be told
    return config


def fields_of(model_type: str) -> set[str]:
    """The fields that a model of this type reads from its configuration. Others would become attributes of
    it, which libraries take for those of other types."""
    kind = CONFIG_MAPPING[model_type]
    declared = {field.name for field in dataclasses.fields(kind)}
    return declared | set(kind.attribute_map) | UNDECLARED


def put_linear_layers_in_nf4(model, double: bool, device: str) -> None:
    """Replace linear layers by NF4 ones, in place, as load_in_4bit does: all but the head, of the very class
    nn.Linear or Conv1D (transformers 5.23, integrations/bitsandbytes.py). Experts are parameters and stay."""
    kept = get_keys_to_not_convert(model)
    for name, old in list(model.named_modules()):
        turned = isinstance(old, Conv1D)
        if not (turned or type(old) is torch.nn.Linear) or not should_convert_module(name, kept):
            continue
        weight = old.weight.data.T if turned else old.weight.data
        has_bias = old.bias is not None
        new = Linear4bit(
            weight.shape[1],
            weight.shape[0],
            bias=has_bias,
            compute_dtype=weight.dtype,
            compress_statistics=double,
            quant_type="nf4",
            device=device,
        )
        new.weight.data = weight
        new.weight._quantize(device)
        if has_bias:
            new.bias = old.bias
        model.set_submodule(name, new)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.is_loaded_in_4bit = model.is_quantized = True


def with_adapters(model, setup: Setup):
    """The PEFT model of the setup; adapters in float32, PEFT's default on a 16-bit or 4-bit base."""
    modules, parameters = setup.targets, None
    if setup.targets != "all-linear":
        paths = [name for name in setup.targets if name in architectures.EXPERT_PATHS]
        modules, parameters = [name for name in setup.targets if name not in paths], paths or None
    lora = LoraConfig(
        r=setup.rank,
        lora_alpha=2 * setup.rank,
        lora_dropout=setup.dropout,
        target_modules=modules,
        target_parameters=parameters,
        fan_in_fan_out=setup.config["model_type"] == "gpt2" and not setup.four_bit,
        use_rslora=setup.method == "rslora",
        use_dora=setup.method.endswith("dora"),
        task_type="CAUSAL_LM",
    )
    with torch.device(model.device), warnings.catch_warnings():  # else they are made on the CPU first
        # PEFT does find the experts, whose rank it names by pattern, and says that it does not.
        warnings.filterwarnings("ignore", ".*pattern keys did not match", RuntimeWarning)
        return get_peft_model(model, lora)


def trainable_parameters(model) -> list[torch.nn.Parameter]:
    """The parameters that get gradients."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def optimizer_for(setup: Setup, model) -> torch.optim.Optimizer:
    """AdamW over what is trained: in a plain loop with foreach=True, what torch picks on a GPU; fused, the
    trainer's default; or one of bitsandbytes'."""
    parameters = trainable_parameters(model)
    if setup.optimizer not in BITSANDBYTES:
        return torch.optim.AdamW(parameters, **{"fused" if setup.trainer == "sft" else "foreach": True})
    optimizer = BITSANDBYTES[setup.optimizer](parameters)
    if setup.trainer == "sft" and setup.optimizer.endswith("8bit"):
        trainer_step.keep_embeddings_in_32_bits(optimizer, model)
    return optimizer


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
        device = batch["input_ids"].device.type
        with autocasting.of_step(device, setup.autocasts):
            if plain:
                with autocasting.of_forward(device, setup.autocasts):
                    held[:] = [model(**batch)]
                (held[0].loss / len(batches)).backward()
            else:
                trainer_step.loss(model, batch, device, setup.autocasts).backward()
    enter("optimizer")
    torch.nn.utils.clip_grad_norm_(trainable_parameters(model), 1.0, foreach=False)
    optimizer.step()
    if not plain:
        model.zero_grad()
