"""The methods that are compared: how each is put on a model, what it trains, over which rates it is tuned.

How large each is: `widths`.

GaLore is left out: transformers takes it from galore-torch, whose only release is of March 2024. ReLoRA has
no kept implementation at all.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from labsupport.core.files import LabError
from labsupport.method_runs import widths
from labsupport.sizes import counting

ALPHA = 32
LORA_PLUS_RATIO = 16  # B's learning rate over A's; Hayou et al. 2024 have 16 for Llama
IA3_TARGETS = ("k_proj", "v_proj", "down_proj")  # PEFT's for Llama: outputs of two, the input of the third


@dataclass(frozen=True)
class Method:
    """A method by its title, how it is put on, how many parameters it trains, and what can be said of it.

    put: (model, its config as a dict) -> the model to be trained. count: (config) -> trained parameters.
    equal: its size follows from LoRA's number of parameters. merges: it can be folded into the weights.
    lora_flops: a step has the operations of LoRA's, so that equal steps are equal operations.
    """

    title: str
    put: Callable
    count: Callable[[dict], int]
    equal: bool = True
    merges: bool = True
    lora_flops: bool = False


# ---------------------------------------------------------------- putting them on


def on_linears(model, config: dict, **changes):
    """LoRA on all linear layers but the head, with PEFT; `changes` of LoraConfig."""
    from peft import LoraConfig, get_peft_model

    settings = {"r": widths.RANK, "lora_alpha": ALPHA} | changes
    return get_peft_model(model, LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM", **settings))


def dora(model, config: dict, scale: int = ALPHA // widths.RANK):
    """DoRA (Liu et al. 2024); scale: alpha over rank, LoRA's if not said otherwise."""
    rank = widths.dora_rank(config)
    return on_linears(model, config, r=rank, lora_alpha=scale * rank, use_dora=True)


def vera(model, config: dict):
    """VeRA (Kopiczko et al. 2024) on all linear layers."""
    from peft import VeraConfig, get_peft_model

    return get_peft_model(
        model, VeraConfig(r=widths.VERA_RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    )


def ia3(model, config: dict):
    """IA3 (Liu et al. 2022) on keys, values and the input of down_proj."""
    from peft import IA3Config, get_peft_model

    settings = {"target_modules": list(IA3_TARGETS), "feedforward_modules": ["down_proj"]}
    return get_peft_model(model, IA3Config(task_type="CAUSAL_LM", **settings))


def prompt(model, config: dict):
    """Prompt tuning (Lester et al. 2021) from rows of the embedding, drawn at random."""
    from peft import PromptTuningConfig, get_peft_model

    settings = {"prompt_tuning_init": "SAMPLE_VOCAB", "num_virtual_tokens": widths.PROMPT_TOKENS}
    return own_logits_alone(get_peft_model(model, PromptTuningConfig(task_type="CAUSAL_LM", **settings)))


def prefix(model, config: dict):
    """Prefix tuning (Li and Liang 2021): the keys and values themselves, without the MLP that they are
    trained through there."""
    from peft import PrefixTuningConfig, get_peft_model

    tokens = widths.prefix_tokens(config)
    return get_peft_model(model, PrefixTuningConfig(num_virtual_tokens=tokens, task_type="CAUSAL_LM"))


def bottleneck(model, config: dict):
    """Bottleneck adapters (Houlsby et al. 2019), two a layer."""
    from labsupport.models import bottleneck as adapters

    adapters.attach(model, widths.bottleneck_width(config))
    return model


def full(model, config: dict):
    """Full fine-tuning: every parameter, embeddings and norms among them."""
    return model.requires_grad_(True)


def own_logits_alone(model):
    """Let the model's logits be those of the row's own tokens, as with every other method: prompt tuning puts
    its tokens before them. Changes the model; returns it."""

    def cut(module, inputs, arguments, output):
        if getattr(output, "logits", None) is not None and arguments.get("input_ids") is not None:
            output.logits = output.logits[:, -arguments["input_ids"].shape[1] :]
        return output

    model.register_forward_hook(cut, with_kwargs=True)
    return model


METHODS = {
    "lora": Method("LoRA", on_linears, widths.budget, lora_flops=True),
    # At rank 16 this is LoRA with a scale of 32 / sqrt(16) = 8 for 32 / 16 = 2: as much about alpha as about
    # the method, which is why DoRA is there at both scales.
    "rslora": Method(
        "rsLoRA", functools.partial(on_linears, use_rslora=True), widths.budget, lora_flops=True
    ),
    "loraplus": Method("LoRA+", on_linears, widths.budget, lora_flops=True),
    # Meng et al. 2024 have alpha = r; the rank's share of each weight is taken out of it and trained.
    "pissa": Method(
        "PiSSA",
        functools.partial(on_linears, lora_alpha=widths.RANK, init_lora_weights="pissa"),
        widths.budget,
        lora_flops=True,
    ),
    "dora": Method("DoRA", dora, widths.dora_count),
    "dora8": Method("DoRA at scale 8", functools.partial(dora, scale=8), widths.dora_count),
    "bottleneck": Method(
        "bottleneck adapter",
        bottleneck,
        widths.bottleneck_count,
        merges=False,
    ),
    "prefix": Method(
        "prefix tuning",
        prefix,
        widths.prefix_count,
        merges=False,
    ),
    "vera": Method("VeRA", vera, widths.vera_count, equal=False),
    "ia3": Method("IA3", ia3, widths.ia3_count, equal=False),
    "prompt": Method(
        "prompt tuning",
        prompt,
        widths.prompt_count,
        equal=False,
        merges=False,
    ),
    "full": Method("full fine-tuning", full, counting.model_parameters, equal=False, merges=False),
}

# Learning rates to be tried on tiny_base: four, each method's around the best of two or three rates in single
# runs that are not kept, and two more where the best of four was at an edge. Apart from METHODS, so that a
# longer grid leaves the runs that were done valid.
RATES = {
    "lora": (1e-3, 2e-3, 4e-3, 8e-3),
    "rslora": (5e-4, 1e-3, 2e-3, 4e-3),
    "loraplus": (2.5e-4, 5e-4, 1e-3, 2e-3),
    "pissa": (1e-3, 2e-3, 4e-3, 8e-3),
    "dora": (1e-3, 2e-3, 4e-3, 8e-3),
    "dora8": (5e-4, 1e-3, 2e-3, 4e-3),
    "bottleneck": (2e-3, 4e-3, 8e-3, 1.6e-2),
    "prefix": (0.05, 0.1, 0.2, 0.4, 0.8, 1.6),
    "vera": (0.03, 0.06, 0.12, 0.24),
    "ia3": (0.1, 0.2, 0.4, 0.8),
    "prompt": (0.04, 0.075, 0.15, 0.3, 0.6, 1.2),
    "full": (5e-4, 1e-3, 2e-3, 4e-3),
}


def put(name: str, model, seed: int):
    """A method of METHODS put on a model, which it changes: the model to be trained, a PeftModel or not.

    seed: of its first weights. LabError for another name.
    """
    import torch

    if name not in METHODS:
        raise LabError(f"There is no method {name!r}: choose among {', '.join(METHODS)}.")
    torch.manual_seed(seed)
    return METHODS[name].put(model.requires_grad_(False), model.config.to_dict())


def optimizer(name: str, model, rate: float, betas: tuple[float, float]):
    """The optimizer if the trainer cannot make it itself, else None: LoRA+ has its own rate for B."""
    if name != "loraplus":
        return None
    import torch
    from peft.optimizers import create_loraplus_optimizer

    ratio = {"loraplus_lr_ratio": LORA_PLUS_RATIO}
    return create_loraplus_optimizer(model, torch.optim.AdamW, lr=rate, betas=betas, fused=True, **ratio)
