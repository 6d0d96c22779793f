"""Functions as notebooks from before the package had rooms call them. See old_names."""

from __future__ import annotations

import dataclasses
import functools

import torch

from labsupport.configs import model_configs
from labsupport.memory import watching, workload
from labsupport.models import chat
from labsupport.planning import planner
from labsupport.setups import setup
from labsupport.setups.setup import config_named
from labsupport.sizes import gpus

DEPTH = 3  # layers that copies trace themselves, to repeat the inner one
Setup = functools.partial(setup.Setup, trainer="plain")  # there was no other then
FIELDS = {
    "seq": "length",
    "optim": "optimizer",
    "double_quant": "double_quantization",
    "kbit_prep": "kbit_preparation",
}


def plan(model: str | dict, method: str = "lora", *, gpu=None, suggest: bool = True, **options):
    """`planner.plan` by the name of a model or a configuration, and a card's name or GiB."""
    config = model_configs.checked(dict(model)) if isinstance(model, dict) else config_named(model)
    fields = {FIELDS.get(name, name): value for name, value in options.items()}
    card = None if gpu is None else gpus.find(gpu)
    return planner.plan(Setup(config, method, **{"length": 512} | fields), card, suggest)


def optimizer_for(run: setup.Setup, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """`workload.optimizer_for` by what is trained, in place of the model."""
    return workload.optimizer_for(run, torch.nn.ParameterList(parameters))


def real_peak(run: setup.Setup, micro_batches: int = 1) -> int:
    """`watching.measured_peak`, with the micro-batches of a step beside the run."""
    return watching.measured_peak(dataclasses.replace(run, accumulation=micro_batches))


def pad_left(sequences: list[list[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """int64 ids and mask of shape (rows, longest); `pad` stands in front, so the ends line up."""
    ids = chat.pad_labels_left(sequences, pad)
    mask = chat.pad_labels_left([[1] * len(sequence) for sequence in sequences], 0)
    return ids, mask
