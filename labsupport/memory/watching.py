"""What autograd keeps of a forward pass, and what a real training step takes: watched, not computed."""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import torch
from torch.profiler import ProfilerActivity, profile

from labsupport import old_names
from labsupport.allocations import streams
from labsupport.memory import anatomy, autocasting, stand_ins, tracing, workload
from labsupport.setups.setup import Setup

ROW = 1021  # tokens, a prime: so a tensor whose size is a multiple of it is one of the tokens


class Held:
    """A tensor that a node of the graph has saved; it goes when the node goes."""

    def __init__(self, tensor: torch.Tensor):
        self.tensor = tensor


def kept(forward: Callable[[], object]) -> list[torch.Tensor]:
    """The tensors that autograd holds for the backward pass when forward() has returned, each memory once.
    What is saved on the way and freed before, as DoRA's B A is, does not count: nothing is held by looking.
    """
    saved: list[weakref.ref[Held]] = []

    def save(tensor: torch.Tensor) -> Held:
        one = Held(tensor.detach())  # without the node, or each would hold the other
        saved.append(weakref.ref(one))
        return one

    with torch.autograd.graph.saved_tensors_hooks(save, lambda one: one.tensor):
        output = forward()
    found: dict[int, torch.Tensor] = {}
    for reference in saved:
        if (one := reference()) is not None:
            found.setdefault(one.tensor.untyped_storage()._cdata, one.tensor)
    del output  # until here it has kept the graph
    return list(found.values())


def held_bytes(model) -> dict[int, int]:
    """Address and bytes of all that a model holds: weights, buffers, and the scales of 4-bit weights."""
    found = {}
    for tensor in [*model.parameters(), *model.buffers()]:
        parts, state = [tensor], getattr(tensor, "quant_state", None)
        while state is not None:  # doubly quantised scales have scales of their own
            parts += [part for part in (state.absmax, state.code, state.offset) if part is not None]
            state = state.state2
        found |= {p.untyped_storage()._cdata: p.untyped_storage().nbytes() for p in parts}
    return found


def kept_by_block(setup: Setup) -> Counter:
    """What one inner block keeps for each token in this trainer's forward pass, without checkpointing:
    (dtype, numbers a token) -> how many tensors. Two blocks watched less one."""
    return kept_by_blocks(setup, 2) - kept_by_blocks(setup, 1)


def kept_by_blocks(setup: Setup, depth: int) -> Counter:
    """What the first `depth` blocks keep, their own weights apart; as `kept_by_block`. On the meta device, so
    that a model of any size takes no memory."""
    setup = replace(setup, batch=1, length=ROW, checkpointing=False)
    options = {} if setup.trainer == "plain" else {"use_cache": False}
    with stand_ins.in_use(setup.trainer, autocast=setup.autocasts):  # for what cannot run without data
        model = workload.build_model(setup, depth)
        blocks, batch = anatomy.core(model).base_model, workload.batch_for(setup)  # without the head
        inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
        with autocasting.of_step("meta", setup.autocasts):
            tensors = kept(lambda: blocks(**inputs, **options))
    weights = held_bytes(model)
    others = [t for t in tensors if t.untyped_storage()._cdata not in weights and t.numel() % ROW == 0]
    return Counter((str(t.dtype).removeprefix("torch."), t.numel() // ROW) for t in others)


def measured_peak(setup: Setup, model=None) -> int:
    """Bytes at the peak of two real training steps on this processor, by torch.profiler, as the setup's
    trainer takes them; TRL's head as it runs on a processor. model: the setup's; built if none is given."""
    if model is None:
        model = workload.build_model(setup, setup.config["num_hidden_layers"], "cpu")
    optimizer = workload.optimizer_for(setup, model)
    batches = [workload.batch_for(setup, "cpu") for _ in range(setup.accumulation)]
    there = sum(held_bytes(model).values())
    there += sum(tensor.nbytes for batch in batches for tensor in batch.values())
    outputs = []

    def two_steps():
        for _ in range(2):
            workload.training_step(setup, model, batches, optimizer, outputs)

    found = profiled_peak(there, two_steps)
    optimizer.zero_grad()  # the model may be measured again
    return found


def traced_peak(setup: Setup) -> int:
    """The same peak as the trace has it, for a processor: exact bytes, TRL's head without its GPU kernels."""
    stream, _ = tracing.record_steps(setup, setup.config["num_hidden_layers"], as_on_gpu=False)
    return streams.peak(stream, unit=1).bytes


def profiled_peak(held: int, steps: Callable[[], object]) -> int:
    """The most bytes alive on the processor during steps(), by torch.profiler's note of each allocation and
    release. held: bytes that are there before."""
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        steps()
    now = highest = held
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        highest = max(highest, now)
    return highest


def __getattr__(name: str):
    return old_names.found("memory.watching", name)
