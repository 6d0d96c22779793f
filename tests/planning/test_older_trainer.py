"""The planner's trace of the very step that fms-acceleration's runs took, against their figures.

transformers 4.48 with TRL 0.13: the loss copied the shifted float32 logits, the trainer dropped the model's
outputs before the backward pass and gradients after the step; autocast with bf16=True.
"""

import pytest
import torch

from labsupport.allocations import streams
from labsupport.memory import autocasting, workload
from labsupport.planning import evidence, footprint

ROWS = [row for row in evidence.rows() if row["source"] == "fms-acceleration" and row["batch"] == 4]
CUBLAS = 2 * (2 * 4096 + 8 * 16) * 1024  # two threads' workspaces: allocated, but no tracer sees them


def shifted_loss(logits, labels, vocab_size, **rest):
    """ForCausalLMLoss of transformers 4.48."""
    logits = logits.float()  # as there: alive to the end
    shifted = logits[..., :-1, :].contiguous()
    return torch.nn.functional.cross_entropy(shifted.view(-1, vocab_size), labels[..., 1:].reshape(-1))


def step_of_then(setup, model, batches, optimizer, held, enter=lambda phase: None):
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    base.loss_function = shifted_loss
    enter("forward")
    with autocasting.of_step("meta", setup.autocasts):
        with autocasting.of_forward("meta", setup.autocasts):
            loss = model(**batches[0]).loss
        loss.backward()
    del loss
    enter("optimizer")
    torch.nn.utils.clip_grad_norm_(workload.trainable_parameters(model), 1.0, foreach=False)
    optimizer.step()
    model.zero_grad()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["where"].rpartition(": ")[2])
def test_the_step_as_it_was_takes_what_was_measured(monkeypatch, row):
    monkeypatch.setattr(workload, "training_step", step_of_then)
    stream, _ = footprint.trace_steps(evidence.setup_of(row))
    allocated = (streams.peak(stream).bytes + CUBLAS) / streams.GIB
    assert allocated == pytest.approx(row["allocated_gib"], rel=5e-3)
