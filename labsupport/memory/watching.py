"""What autograd keeps of a forward pass, and what a real training step takes: watched, not computed."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

from labsupport.memory import stand_ins, workload
from labsupport.memory.setup import Setup


def kept(forward: Callable[[], object]) -> list[torch.Tensor]:
    """The tensors that autograd saves for the backward pass while forward() runs, each memory once."""
    found = {}
    hooks = torch.autograd.graph.saved_tensors_hooks(
        lambda t: found.setdefault(t.untyped_storage()._cdata, t), lambda t: t
    )
    with hooks:
        output = forward()
    del output
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


def kept_by_model(setup: Setup, depth: int) -> Counter:
    """What a model of `depth` blocks keeps for each token, its own weights apart: {(dtype, width): how
    many}. On the meta device, so that a model of any size takes no memory."""
    with stand_ins.in_use():  # stand-ins for what cannot run without data
        model = workload.build_model(setup, depth)
        tensors = kept(lambda: model(**workload.batch_for(setup)))
    weights, tokens = held_bytes(model), setup.batch * setup.length
    others = [t for t in tensors if t.untyped_storage()._cdata not in weights]
    return Counter((str(t.dtype).removeprefix("torch."), t.numel() // tokens) for t in others)


def kept_by_block(setup: Setup) -> Counter:
    """What one inner block keeps for each token: two blocks less one. As `kept_by_model`."""
    return kept_by_model(setup, 2) - kept_by_model(setup, 1)


def real_peak(setup: Setup, micro_batches: int = 1) -> int:
    """Bytes at the peak of two real training steps on the processor, as torch.profiler notes each allocation
    and release. A plain loop; each step runs so many micro-batches before the optimizer's."""
    model = workload.build_model(setup, setup.config["num_hidden_layers"], "cpu")
    optimizer = workload.optimizer_for(setup, model)
    batch = workload.batch_for(setup, "cpu")
    held = sum(held_bytes(model).values()) + sum(tensor.nbytes for tensor in batch.values())

    def steps():
        for _ in range(2):
            for _ in range(micro_batches):
                output = model(**batch)
                output.loss.backward()
            torch.nn.utils.clip_grad_norm_(workload.trainable_parameters(model), 1.0, foreach=False)
            optimizer.step()
            optimizer.zero_grad()

    return profiled_peak(held, steps)


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
