"""What a trainer does in its innermost loop, and a way to leave it early."""

from __future__ import annotations

import torch
from transformers import TrainerCallback

from labsupport.models import chat

LONGEST_GRADIENT = 1.0  # the trainer's max_grad_norm


def train(model, batches: list[dict], rates: list[float], betas: tuple[float, float]) -> list[float]:
    """One AdamW step a batch on the parameters that require a gradient; changes the model in place.

    batches: dicts with input_ids, attention_mask and labels, int64 tensors of shape (rows, length). rates:
    the learning rate of each step. betas: Adam's two. The gradients' common norm is clipped to 1, weights do
    not decay. Returns the loss of each batch before its step, in nats a token.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, betas=betas, weight_decay=0.0, fused=True)
    losses = []
    for batch, rate in zip(batches, rates, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rate
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        loss = chat.answer_loss(logits, batch["labels"])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, LONGEST_GRADIENT)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


class StopAfter(TrainerCallback):
    """Ends a run after so many steps, on the schedule of the whole run: they are the first of its steps."""

    def __init__(self, steps: int):
        self.steps = steps

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = control.should_training_stop or state.global_step >= self.steps
