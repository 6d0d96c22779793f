"""Training steps that the notebook looks at: traced once and remembered, watched, or really taken."""

from __future__ import annotations

import functools
import json
from collections import Counter

from labsupport.allocations import streams
from labsupport.allocations.streams import Stream
from labsupport.memory import autocasting, stand_ins, tracing, watching, workload
from labsupport.memory.setup import Setup
from labsupport.planning import footprint

ROW = 1021  # tokens, a prime: so a tensor whose size is a multiple of it is one of the tokens


def traced(setup: Setup) -> Stream:
    """The allocations of two training steps in all blocks of a packed run. Traced once, remembered after."""
    return _traced(json.dumps(vars(setup)))  # a Setup holds a dict, so it cannot be a key itself


@functools.cache
def _traced(setup: str) -> Stream:
    return footprint.trace_steps(Setup(**json.loads(setup)))[0]


def kept_by_block(setup: Setup) -> Counter:
    """What one inner block keeps for each token in this trainer's forward pass, without checkpointing:
    (dtype, numbers a token) -> how many tensors. Two blocks watched less one."""
    return _kept(setup, 2) - _kept(setup, 1)


def _kept(setup: Setup, depth: int) -> Counter:
    fields = vars(setup) | {"batch": 1, "length": ROW, "checkpointing": False}
    setup = Setup(**fields)
    with stand_ins.in_use(setup.trainer):
        model = workload.build_model(setup, depth)
        blocks = model.get_base_model().model  # without the head
        ids = workload.batch_for(setup)["input_ids"]
        if setup.trainer == "plain":
            tensors = watching.kept(lambda: blocks(input_ids=ids))
        else:
            with autocasting.of_step("meta", True):
                tensors = watching.kept(lambda: blocks(input_ids=ids, use_cache=False))
    weights = watching.held_bytes(model)
    others = [t for t in tensors if t.untyped_storage()._cdata not in weights and t.numel() % ROW == 0]
    return Counter((str(t.dtype).removeprefix("torch."), t.numel() // ROW) for t in others)


def real_peak(setup: Setup) -> int:
    """Bytes at the peak of two real training steps on this processor, by torch.profiler, with the trainer's
    own step: TRL's head as it runs on a processor."""
    model = workload.build_model(setup, setup.config["num_hidden_layers"], "cpu")
    optimizer = workload.optimizer_for(setup, model)
    batches = [workload.batch_for(setup, "cpu") for _ in range(setup.accumulation)]
    there = sum(watching.held_bytes(model).values())
    there += sum(tensor.nbytes for batch in batches for tensor in batch.values())
    outputs = []

    def two_steps():
        for _ in range(2):
            workload.training_step(setup, model, batches, optimizer, outputs)

    return watching.profiled_peak(there, two_steps)


def traced_here(setup: Setup) -> int:
    """The same peak as the trace has it, for a processor: exact bytes, TRL's head without its GPU kernels."""
    depth = setup.config["num_hidden_layers"]

    stream, _ = tracing.record_steps(setup, depth, as_on_gpu=False)
    return streams.peak(stream, unit=1).bytes
