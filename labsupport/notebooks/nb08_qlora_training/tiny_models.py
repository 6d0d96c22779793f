"""Tiny random Llamas for the exercises of notebook 08: one in a folder, and tuned ones on four bits."""

from __future__ import annotations

import atexit
import copy
import functools
import tempfile

VOCABULARY = 160
# Every linear layer of a Llama but the head: what "all-linear" means, and what is packed.
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@functools.cache
def folder() -> str:
    """A folder with a random Llama of two layers, 32 wide, in bfloat16; gone when Python ends.

    It also imports what quantises and tunes, so that the first answer that is timed does not.
    """
    from labsupport.core import upstream

    upstream.quiet_known_noise()
    import bitsandbytes  # noqa: F401
    import peft.tuners.lora.dora  # noqa: F401
    import torch

    from labsupport.chat_formats import trainer_rows

    kept = tempfile.TemporaryDirectory(prefix="tiny-llama-")
    atexit.register(kept.cleanup)
    trainer_rows.tiny_llama(VOCABULARY).to(torch.bfloat16).save_pretrained(kept.name)
    return kept.name


def tuned(adapters: str):
    """A PeftModel on four bits as SFTTrainer leaves it, all that it trains cast to bfloat16; a copy.

    adapters: "LoRA"; "LoRA and a head", where a copy of the output head is trained, too; or "LoRA beside an
    older one", where a second adapter, frozen, is in bfloat16 as well.
    """
    return copy.deepcopy(_tuned(adapters))


@functools.cache
def _tuned(adapters: str):
    import torch
    from peft import LoraConfig, get_peft_model

    from labsupport.qlora_runs import recipe

    model = recipe.qlora_model(folder(), torch.bfloat16, rank=2)
    lora = {"r": 2, "target_modules": list(PROJECTIONS), "task_type": "CAUSAL_LM"}
    if adapters == "LoRA and a head":
        model = get_peft_model(model.unload(), LoraConfig(**lora, modules_to_save=["lm_head"]))
    for name, parameter in model.named_parameters():
        if "lora_" in name or parameter.requires_grad:
            parameter.data = parameter.data.to(torch.bfloat16)
    if adapters == "LoRA beside an older one":
        model.add_adapter("older", LoraConfig(**lora))
        for name, parameter in model.named_parameters():
            if "older" in name:
                parameter.data = parameter.data.to(torch.bfloat16)
    return model
