"""A model that takes real steps on the processor."""

from unittest import mock

import torch

from labsupport.memory import workload
from labsupport.setups.setup import Setup


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
