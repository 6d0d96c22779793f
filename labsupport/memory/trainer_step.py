"""A training step as the pinned TRL's SFTTrainer takes it: its own fused head and loss, traced with its code.

What the trainer does besides (trl 1.16, trainer/sft_trainer.py; transformers 5.23, trainer.py): adapters of a
4-bit base become bfloat16 (Setup.adapters_in); activation checkpointing makes the embedding's output need a
gradient; autocast to bfloat16; the loss that balances experts is added; gradients are dropped after
the optimizer's step, not before the next forward. It does not call prepare_model_for_kbit_training.
"""

from __future__ import annotations

import torch

from labsupport.memory import autocasting
from labsupport.setups.setup import Setup

LOGGED = ("log_probs", "entropy", "is_top1")  # what SFTTrainer asks of the fused head


def prepare(model, setup: Setup):
    """The model as SFTTrainer's constructor leaves it, in place, the format of adapters apart."""
    from trl.trainer.utils import add_fused_lm_head  # takes a second, which a plain loop need not wait

    is_peft = hasattr(model, "peft_config")
    if is_peft and setup.checkpointing:
        model.enable_input_require_grads()
    core = model.get_base_model() if is_peft else model
    if router_weight(core) is not None:
        core.config.output_router_logits = router_weight(core) != 0.0
    add_fused_lm_head(core, outputs=LOGGED)
    return model


def router_weight(core) -> float | None:
    """The weight that the trainer gives to the loss that balances a model's experts: its configuration's."""
    return getattr(core.config, "router_aux_loss_coef", None)


def keep_embeddings_in_32_bits(optimizer, model) -> None:
    """The trainer's rule for bitsandbytes' 8-bit optimizers (Trainer.create_optimizer): states of embeddings
    are in float32. Told to this optimizer alone, not to the manager that all share."""
    optimizer.mng = object.__new__(type(optimizer.mng))
    optimizer.mng.initialize()
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding):
            optimizer.mng.pid2config[id(module.weight)] = {"optim_bits": 32}


def tile_width() -> int:
    """How many words of the vocabulary TRL's fused head takes at once."""
    from trl.trainer.utils import _CHUNKED_LOGPROB_CHUNK_SIZE

    return _CHUNKED_LOGPROB_CHUNK_SIZE


def loss(model, batch: dict, device: str, autocast: bool) -> torch.Tensor:
    """SFTTrainer.compute_loss for loss_type="nll", with the sums that it logs."""
    with autocasting.of_forward(device, autocast):
        outputs = model(**batch, use_cache=False, fused_lm_head=True)
    value = (-outputs.log_probs).sum() / outputs.label_mask.sum().clamp(min=1)
    if outputs.aux_loss is not None:
        value = value + router_weight(model) * outputs.aux_loss
    outputs.label_mask.sum(), outputs.entropy.detach().sum(), outputs.is_top1.sum()
    return value
