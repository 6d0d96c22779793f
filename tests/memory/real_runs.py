"""A run that is really taken on the processor, and its peak by torch.profiler."""

from unittest import mock

import torch

from labsupport.memory import watching, workload
from labsupport.memory.setup import Setup


def real_model(setup: Setup):
    """The setup's model on the CPU. Its weights are whatever was in memory: only their sizes matter, and
    drawing random ones takes most of the time."""
    from transformers import PreTrainedModel
    from transformers.initialization import no_init_weights

    from labsupport.core import upstream

    upstream.guard_4bit_on_cpu()
    torch.set_num_threads(1)
    tie = mock.patch.object(PreTrainedModel, "init_weights", PreTrainedModel.tie_weights)
    with no_init_weights(), tie:
        return workload.build_model(setup, setup.config["num_hidden_layers"], "cpu")


def measured_peak(setup: Setup, model) -> int:
    """Bytes at the peak of two real steps on the CPU, by torch.profiler."""
    optimizer = workload.optimizer_for(setup, model)
    batches = [workload.batch_for(setup, "cpu") for _ in range(setup.accumulation)]
    inputs = sum(tensor.nbytes for batch in batches for tensor in batch.values())
    outputs = []

    def steps():
        for _ in range(2):
            workload.training_step(setup, model, batches, optimizer, outputs)

    found = watching.profiled_peak(sum(watching.held_bytes(model).values()) + inputs, steps)
    optimizer.zero_grad()  # the model may be measured again
    return found
