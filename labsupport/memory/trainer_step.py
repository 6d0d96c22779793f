"""A training step as the pinned TRL's SFTTrainer takes it: its own fused head and loss, traced with its code.

What the trainer does besides (trl 1.16, trainer/sft_trainer.py; transformers 5.23, trainer.py): adapters of a
4-bit base become bfloat16, all but DoRA's magnitudes; activation checkpointing makes the embedding's output
need a gradient; autocast to bfloat16; gradients are dropped after the optimizer's step, not before the next
forward. It does not call prepare_model_for_kbit_training.
"""

from __future__ import annotations

import torch

from labsupport.memory import autocasting
from labsupport.memory.setup import Setup

LOGGED = ("log_probs", "entropy", "is_top1")  # what SFTTrainer asks of the fused head


def prepare(model, setup: Setup):
    """The model as SFTTrainer's constructor leaves it, in place."""
    from trl.trainer.utils import add_fused_lm_head  # takes a second, which a plain loop need not wait

    is_peft = hasattr(model, "peft_config")
    if setup.four_bit:
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "lora_magnitude_vector" not in name:
                parameter.data = parameter.data.to(torch.bfloat16)
    if is_peft and setup.checkpointing:
        model.enable_input_require_grads()
    add_fused_lm_head(model.get_base_model() if is_peft else model, outputs=LOGGED)
    return model


def tile_width() -> int:
    """How many words of the vocabulary TRL's fused head takes at once."""
    from trl.trainer.utils import _CHUNKED_LOGPROB_CHUNK_SIZE

    return _CHUNKED_LOGPROB_CHUNK_SIZE


def forward_and_backward(model, batch: dict) -> None:
    """One micro-batch: the loss and its gradients."""
    device = batch["input_ids"].device.type
    with autocasting.of_step(device):
        loss(model, batch, device).backward()


def loss(model, batch: dict, device: str) -> torch.Tensor:
    """SFTTrainer.compute_loss for loss_type="nll", with the sums that it logs."""
    with autocasting.of_forward(device):
        outputs = model(**batch, use_cache=False, fused_lm_head=True)
    value = (-outputs.log_probs).sum() / outputs.label_mask.sum().clamp(min=1)
    outputs.label_mask.sum(), outputs.entropy.detach().sum(), outputs.is_top1.sum()
    return value
