# %%
# Does nothing after `lab.py start`. In a bare kernel, such as Colab's, it installs the course's packages.
import importlib.util, pathlib, runpy, sys

if importlib.util.find_spec("labsupport") is None:
    here = pathlib.Path.cwd()
    folders = [here, *here.parents, *here.glob("*/")]
    found = [f for p in folders if (f := p / "labsupport" / "elsewhere.py").exists()]
    if not found:
        sys.exit(f"No folder labsupport/ in, above or below {here}: clone the course's repository there.")
    runpy.run_path(str(found[0]), run_name="__main__")

# %%
import os

os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # the profiler says on the screen when it starts and stops
from labsupport import upstream

upstream.quiet_known_noise()  # messages about this stack that you can do nothing about
upstream.guard_4bit_on_cpu()  # before a 4-bit model is built, see notebook 04

# %%
import dataclasses
import functools
import gc
from collections import Counter

import torch
from torch.profiler import ProfilerActivity, profile

from labsupport import checkpoints, claims, cost, counting, gpus, memory, memory_closed_form, memory_model
from labsupport import memory_stream, memory_trace, model_configs, plots, predictions, profiles
from labsupport.exercises import memory_and_cost as exercises
from labsupport.explorers import cost_estimator, vram_planner
from labsupport.files import LabError
from labsupport.verifications import memory as verifications

# %%
torch.set_num_threads(profiles.current().threads)
GB, GIB = 1e9, 2**30  # guides count in GB; torch and this course's planner in GiB
llama2, llama3 = model_configs.find("llama-2-7b"), model_configs.find("llama-3.1-8b")

# %%
guess = None  # your guess, in GB

# %%
def recipe_bytes(weight: int, gradient: int, moment: int, master: bool) -> int:
    raise NotImplementedError  # your code here


exercises.recipe_bytes.check(recipe_bytes)

# %%
# exercises.recipe_bytes.hint()
bytes_of = exercises.recipe_bytes.or_reference(recipe_bytes)

# %%
recipes = {
    "bfloat16, 8-bit Adam": (2, 2, 1, False),
    "all in bfloat16": (2, 2, 2, False),
    "bfloat16, float32 Adam": (2, 2, 4, False),
    "the same and a master copy": (2, 2, 4, True),
}
count = counting.model_parameters(llama2)
for name, parts in recipes.items():
    print(f"{name:27s} {bytes_of(*parts):2d} bytes a parameter, {bytes_of(*parts) * count / GB:4.0f} GB")
predictions.compare(guess, bytes_of(2, 2, 4, False) * count / GB, unit="GB", word="computed")

# %%
for guide, gb, billions in (("003", 56, 7), ("003", 560, 70), ("001", 60, 7.25), ("002", 84, 7)):
    print(f"guide {guide}: {gb:3d} GB for {billions:5.2f} billion: {gb / billions:4.1f} bytes a parameter")
print("56 GB for a 7B (guide 003): imprecise.", verifications.e2())

# %%
guess = None  # your guess: Adam's states for Llama-2-7B, rank 16, all-linear, in MB (10^6 bytes)

# %%
count = counting.lora_count(llama2, 16)
for name, size in {"adapters": 4, "gradients": 4, "states": 8, "together": 16}.items():
    print(f"{name:9s} {size * count / 1e6:6,.0f} MB")
print(f"base      {2 * counting.model_parameters(llama2) / 1e6:6,.0f} MB in bfloat16")
predictions.compare(guess, 8 * count / 1e6, unit="MB", word="computed")
print("optimizer states of 2-4 GB (guide 001): wrong.", verifications.e15())

# %%
def held_tensors(model) -> dict[int, int]:
    """Address and bytes of all that a model holds: weights, buffers, and the scales of 4-bit weights."""
    found = {}
    for tensor in [*model.parameters(), *model.buffers()]:
        parts, state = [tensor], getattr(tensor, "quant_state", None)
        while state is not None:
            parts += [part for part in (state.absmax, state.code, state.offset) if part is not None]
            state = state.state2
        found |= {p.untyped_storage()._cdata: p.untyped_storage().nbytes() for p in parts}
    return found

# %%
def saved(setup, depth: int) -> Counter:
    """What autograd saves for one token in a model of `depth` blocks: {(dtype, width): how many}."""
    found = {}
    with memory_trace.patched():  # stand-ins for what cannot run without data
        model = memory_model.build(setup, depth)
        weights = held_tensors(model)
        hooks = torch.autograd.graph.saved_tensors_hooks(
            lambda t: found.setdefault(t.untyped_storage()._cdata, t), lambda t: t
        )
        with hooks:
            output = model(**memory_model.batch_for(setup))
    tokens = setup.batch * setup.length
    kept = [t for address, t in found.items() if address not in weights]
    del output
    return Counter((str(t.dtype).removeprefix("torch."), t.numel() // tokens) for t in kept)

# %%
base = memory.Setup(config=llama3, batch=1, length=1024, padded=False, checkpointing=False)
block = saved(base, 2) - saved(base, 1)
sizes = {"float32": 4, "bfloat16": 2}
for (dtype, width), many in sorted(block.items()):
    print(f"{many} x {width:6,} numbers in {dtype}")
watched = sum(many * width * sizes[dtype] for (dtype, width), many in block.items())
print(f"{watched:,} bytes for one token in one block of Llama-3.1-8B with LoRA")

# %%
def kept_by_a_block(config: dict, rank: int) -> int:
    raise NotImplementedError  # your code here


exercises.kept_by_a_block.check(kept_by_a_block)

# %%
# exercises.kept_by_a_block.hint()
block_bytes = exercises.kept_by_a_block.or_reference(kept_by_a_block)

# %%
by_hand = block_bytes(llama3, 16)
print(f"{by_hand:,} by hand, {watched:,} watched: {watched - by_hand} bytes apart, one float32 a norm")
inputs = sum(4 * inputs for inputs, _ in counting.block_shapes(llama3).values())
print(f"inputs of the adapters: {100 * inputs / by_hand:.0f} % of it")
assert watched - by_hand == 8

# %%
four_bit = dataclasses.replace(base, method="qlora")
print("the same tensors as with 16-bit weights:", saved(four_bit, 2) - saved(four_bit, 1) == block)
assert saved(four_bit, 2) - saved(four_bit, 1) == block

# %%
kept = 2 * llama3["hidden_size"]
print(f"a token and block: {by_hand / 1024:.0f} KiB, with checkpointing {kept / 1024:.0f} KiB")

# %%
guess = None  # your guess, in GiB

# %%
@functools.cache
def traced(method: str = "lora", checkpointing: bool = True, length: int = 2048):
    """The allocations of two training steps of Llama-3.1-8B, one packed row of `length` tokens."""
    setup = memory.Setup(llama3, method, batch=1, length=length, checkpointing=checkpointing, padded=False)
    stream, _ = memory_trace.record(setup, memory.DEPTH)
    return memory_stream.deepen(stream, llama3["num_hidden_layers"])

# %%
def worst_moment(stream, category: str) -> list[int]:
    """Bytes of each block of a category at the moment when they are most."""
    alive, worst = {}, []
    for number, appears, _, _ in stream.events:
        block = stream.blocks[number]
        if block.category == category and appears:
            alive[number] = block.bytes
        elif block.category == category:
            del alive[number]
        if sum(alive.values()) > sum(worst):
            worst = list(alive.values())
    return worst

# %%
logits = worst_moment(traced(), "logits")
predictions.compare(guess, sum(logits) / GIB, unit="GiB", word="predicted")
a_word = [size / 2048 / llama3["vocab_size"] for size in logits]
print("bytes a token and word:", " + ".join(f"{size:g}" for size in a_word), f"= {sum(a_word):g}")
assert sum(a_word) == 14

# %%
logits_of = {name: 14 * model_configs.find(name)["vocab_size"] for name in ("llama-2-7b", "llama-3.1-8b")}
for name, size in logits_of.items():
    blocks = 32 * 2 * 4096
    print(f"{name:13s} a token: logits {size / 1e6:.2f} MB, 32 checkpointed blocks {blocks / 1e6:.2f} MB")

# %%
def replay(stream) -> tuple[list[str], list[Counter]]:
    """After each event of the second step: its phase, and the bytes alive by category."""
    phases, moments, live, second = [], [], Counter(), False
    for number, appears, _, phase in stream.events:
        block = stream.blocks[number]
        live[block.category] += block.bytes if appears else -block.bytes
        second = second or block.span.startswith("2 ")
        if second:
            phases.append(phase)
            moments.append(live.copy())
    return phases, moments

# %%
colours = (plots.BLUE, plots.ORANGE, plots.GREEN, plots.PURPLE)
fig, panels = plots.figure(columns=2, sharey=True)
for axes, on in zip(panels, (False, True), strict=True):
    phases, moments = replay(traced("lora", on))
    for phase, colour in zip(("forward", "loss", "backward", "optimizer"), colours, strict=True):
        here = [i for i, name in enumerate(phases) if name == phase]
        gib = [moments[i].total() / GIB for i in here]
        axes.plot([i / 1000 for i in here], gib, ".", markersize=2, color=colour, label=phase)
    axes.set(xlabel="events of a step (thousands)", title=f"checkpointing {'on' if on else 'off'}")
panels[0].set(ylabel="GiB alive (predicted)", ylim=(0, None))
panels[1].legend(loc="upper right", markerscale=5)
fig.suptitle("The peak is the loss: one moment between forward and backward", x=0.02, ha="left")
plots.show(
    fig,
    "Memory over the events of a LoRA step of Llama-3.1-8B, one row of 2,048 tokens, in four phases. Without "
    "checkpointing it climbs from 15 GiB to 37 at the loss and falls again; with it, it stays low but for a "
    "spike at the loss.",
)

# %%
stream = traced()
moments = replay(stream)[1]
rows = {name: max(moment[name] for moment in moments) for name in memory.CATEGORIES}
print(", ".join(f"{name} {size / GIB:.2f}" for name, size in rows.items()))
print(f"sum {sum(rows.values()) / GIB:.1f} GiB, peak {memory_stream.peak(stream).bytes / GIB:.1f} GiB")

# %%
def peak_bytes(standing: float, activations: float, logits: float, gradients: float) -> float:
    raise NotImplementedError  # your code here


exercises.peak_bytes.check(peak_bytes)

# %%
# exercises.peak_bytes.hint()
peak_of = exercises.peak_bytes.or_reference(peak_bytes)

# %%
def on_paper(setup: memory.Setup) -> float:
    """Peak bytes of LoRA or QLoRA on all linear layers, bfloat16, packed rows."""
    config, tokens = setup.config, setup.batch * setup.length
    count = counting.lora_count(config, setup.rank)
    kept = 2 * config["hidden_size"] if setup.checkpointing else block_bytes(config, setup.rank)
    standing = memory_closed_form.weight_bytes(setup) + 12 * count  # adapters 4, moments 8
    activations = tokens * config["num_hidden_layers"] * kept
    return peak_of(standing, activations, 14 * config["vocab_size"] * tokens, 4 * count)

# %%
print("Llama-3.1-8B, one row of 2,048, GiB   paper   trace")
for method in ("lora", "qlora"):
    for on in (False, True):
        setup = memory.Setup(llama3, method, batch=1, length=2048, checkpointing=on, padded=False)
        paper, trace = on_paper(setup), memory_stream.peak(traced(method, on)).bytes
        note = "  NF4 not checked on a GPU" if setup.four_bit else ""
        name = f"{method:6s} checkpointing {'on' if on else 'off'}"
        print(f"{name:35s} {paper / GIB:7.1f} {trace / GIB:7.1f}{note}")
        assert abs(paper - memory_closed_form.estimate(setup)) < 1  # the course's own closed form
        assert abs(paper / trace - 1) < 0.02

# %%
def profiled(setup: memory.Setup, micro_batches: int = 1) -> tuple[int, torch.optim.Optimizer]:
    """(bytes at the peak, optimizer) of two real training steps on the CPU."""
    model = memory_model.build(setup, setup.config["num_hidden_layers"], "cpu")
    optimizer = memory_model.optimizer_for(setup, memory_model.trainable(model))
    batch = memory_model.batch_for(setup, "cpu")
    now = sum(held_tensors(model).values()) + sum(tensor.nbytes for tensor in batch.values())
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        for _ in range(2):
            for _ in range(micro_batches):
                output = model(**batch)
                output.loss.backward()
            torch.nn.utils.clip_grad_norm_(memory_model.trainable(model), 1.0, foreach=False)
            optimizer.step()
            optimizer.zero_grad()
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    highest = now
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        highest = max(highest, now)
    return highest, optimizer

# %%
tiny = dict(model_configs.find("smollm2-135m"), num_hidden_layers=4, vocab_size=8192)
small = memory.Setup(tiny, batch=2, length=64, dtype="fp32", attention="eager", checkpointing=False)
for options in ({}, {"checkpointing": True}, {"method": "qlora"}, {"method": "full"}):
    setup = dataclasses.replace(small, **options)
    real, optimizer = profiled(setup)
    stream_4, _ = memory_trace.record(setup, 4)
    trace = memory_stream.peak(stream_4, unit=1).bytes
    name = f"{setup.method}{', checkpointing' if setup.checkpointing else ''}"
    print(f"{name:20s} profiler {real / 1e6:4.0f} MB, trace {trace / 1e6:4.0f} MB")
    assert abs(trace / real - 1) < 1e-3

# %%
states = [t for values in optimizer.state.values() for t in values.values() if t.dim()]
parameters = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
print(f"full fine-tuning: {sum(t.nbytes for t in states) / parameters:g} bytes of states a parameter")
assert sum(t.nbytes for t in states) == 8 * parameters

# %%
one, four = (profiled(small, micro_batches)[0] for micro_batches in (1, 4))
gradients = 4 * counting.lora_count(tiny, 16)
print(f"1 micro-batch {one / 1e6:.0f} MB, 4 micro-batches {four / 1e6:.0f} MB")
print(f"the adapters' gradients are {gradients / 1e6:.1f} MB")
assert abs(four - one - gradients) < 0.1 * gradients
print("fewer accumulation steps save memory (guide 001): wrong.", verifications.e17())

# %%
guess = None  # your guess, in percent

# %%
start = {"model": "llama-3.1-8b", "method": "lora", "batch": 1, "seq": 2048, "padded": False}
plain = memory.plan(**start)
light = memory.plan(**start, optim="adamw_8bit")
saved_share = 100 * (1 - light.peak_allocated_gib / plain.peak_allocated_gib)
predictions.compare(guess, saved_share, unit="%", word="predicted")

# %%
changes = {
    "rank 64": {"rank": 64},
    "rank 64 and 8-bit AdamW": {"rank": 64, "optim": "adamw_8bit"},
    "rank 64, row of 512": {"rank": 64, "seq": 512},
    "two rows": {"batch": 2},
    "no checkpointing": {"checkpointing": False},
    "QLoRA (NF4 not checked)": {"method": "qlora"},
    "QLoRA, k-bit prep (not checked)": {"method": "qlora", "kbit_prep": True},
}
print(f"{'as it is':32s} {plain.peak_allocated_gib:5.1f} GiB, in the {plain.phase}")
for name, options in changes.items():
    found = memory.plan(**(start | options))
    change = found.peak_allocated_gib - plain.peak_allocated_gib
    print(f"{name:32s} {found.peak_allocated_gib:5.1f} GiB, {change:+6.2f}, in the {found.phase}")

# %%
print(verifications.d12())

# %%
guess = None  # your guess, in tokens

# %%
weights = {m: memory_closed_form.weight_bytes(memory.Setup(llama3, m)) for m in ("lora", "qlora")}
a_token = llama3["num_hidden_layers"] * (block_bytes(llama3, 16) - 2 * llama3["hidden_size"])
tokens = round((weights["lora"] - weights["qlora"]) / a_token)
predictions.compare(guess, tokens, unit="tokens", word="predicted")

# %%
lengths = (512, 2048, 4096)
runs = [(m, on) for m in ("lora", "qlora") for on in (False, True)]
splits = {run: [memory_stream.peak(traced(*run, n)).split for n in lengths] for run in runs}
groups = {
    "weights": (("weights",), plots.GREY),
    "trainable state": (("adapters", "gradients", "optimizer"), plots.PURPLE),
    "activations": (("activations", "temporaries"), plots.BLUE),
    "logits": (("logits",), plots.ORANGE),
}

# %%
fig, panels = plots.figure(columns=4, sharey=True, height=3.6)
for axes, run in zip(panels, runs, strict=True):
    below = [0.0] * len(lengths)
    for label, (names, colour) in groups.items():
        part = [sum(split.get(name, 0) for name in names) / GIB for split in splits[run]]
        axes.bar([f"{n:,}" for n in lengths], part, bottom=below, color=colour, label=label)
        below = [a + b for a, b in zip(below, part, strict=True)]
    axes.axhline(gpus.find("l4").memory_gib, color="black", linewidth=0.8, linestyle="--")
    name = {"lora": "LoRA", "qlora": "QLoRA (unverified)"}[run[0]]
    axes.set(title=f"{name}\n{'checkpointing' if run[1] else 'no checkpointing'}", xlabel="tokens a step")
    axes.title.set_fontsize(9)
panels[0].set_ylabel("GiB at the peak (predicted)")
fig.legend(*panels[0].get_legend_handles_labels(), ncols=4, loc="outside lower center")
fig.suptitle(
    "Without checkpointing activations decide, with it weights and logits (dashed: an L4)", x=0.02, ha="left"
)
plots.show(
    fig,
    "Stacked bars of predicted peak memory of Llama-3.1-8B for 512, 2,048 and 4,096 tokens a step. Without "
    "checkpointing activations grow to 36 GiB at 4,096 tokens with LoRA and QLoRA alike; with it the rest is "
    "mostly weights, and logits of 7 GiB.",
)

# %%
print("QLoRA, Llama-3.1-8B, checkpointing; predicted, NF4 not checked on a GPU:")
for gb in (6, 8, 10, 12, 15):
    print(f"  {gb:2d} GB", verifications.reached(gb, "llama-3.1-8b", "qlora"))
packed = verifications.predicted("llama-3.1-8b", "qlora", batch=4, length=2048)
print(f"  {packed:.0f} GB for 4 full rows of 2,048")

# %%
for row in claims.load():
    if row["id"][0] == "E":
        found = claims.verify(row) if "verify" in row["evidence"] else row["measured"]
        assert found == row["measured"]
        print(f"{row['id']:3s} {row['verdict']}, guide {', '.join(row['guides'])}: {row['claim']}")
        print(f"      {found}")

# %%
guess = None  # your guess, in percent

# %%
run = memory.Setup(llama3, "lora", length=2048, checkpointing=False)
share = cost.flops_per_token(run) / cost.flops_per_token(dataclasses.replace(run, method="full"))
predictions.compare(guess, 100 * share, unit="%", word="computed")

# %%
def operations(blocks: int, head: int, adapters: int, scores: int, checkpointing: bool) -> int:
    raise NotImplementedError  # your code here


exercises.operations.check(operations)

# %%
# exercises.operations.hint()
operations_of = exercises.operations.or_reference(operations)

# %%
blocks, head = cost.weights_in_products(llama3)
scores = 32 * 2 * 2048 * 4096  # blocks x 2 x row x query width: each token sees half of the row on average
adapters = counting.lora_count(llama3, 16)
off, on = (operations_of(blocks, head, adapters, scores, again) for again in (False, True))
assert off == cost.flops_per_token(run)
assert on == cost.flops_per_token(dataclasses.replace(run, checkpointing=True))
print(f"billion operations a token: {off / 1e9:.1f}, with checkpointing {on / 1e9:.1f}: {on / off:.2f} times")

# %%
def run_cost(
    per_token: float, tokens: int, cards: int, tflops: float, share: float, rate: float
) -> tuple[float, float]:
    raise NotImplementedError  # your code here


exercises.run_cost.check(run_cost)

# %%
# exercises.run_cost.hint()
cost_of = exercises.run_cost.or_reference(run_cost)

# %%
rate, tokens, l4 = 0.80, 5000 * 512 * 3, gpus.find("l4")
lora = memory.Setup(llama3, length=512)


def best_and_worst(cards: int, slower=(1, 1), keep=(1, 1)) -> list[tuple[float, float]]:
    """(hours, money) at the best and at the worst of the assumptions."""
    each = zip(cost.UTILISATION[::-1], slower, keep, strict=True)
    work = cost.flops_per_token(lora)
    return [cost_of(work * s, tokens, cards, l4.peak_tflops, use * k, rate) for use, s, k in each]


mine = {
    "QLoRA, 1 x L4 (NF4 not checked)": best_and_worst(1, slower=cost.DEQUANTISATION),
    "LoRA, 4 x L4": best_and_worst(4, keep=cost.PARALLEL[::-1]),
}

# %%
courses = cost.compare(lora, rows=5000, epochs=3, card=l4, rate=rate, cards=4)
for (name, (best, worst)), course in zip(mine.items(), courses, strict=True):
    print(f"{name:31s} {best[0]:.2g} to {worst[0]:.2g} hours, {best[1]:.2g} to {worst[1]:.2g} in money")
    assert all(abs(a[0] / b - 1) < 1e-9 for a, b in zip((best, worst), course.hours, strict=True))
    assert all(abs(a[1] - b) < 1e-3 for a, b in zip((best, worst), course.money, strict=True))

# %%
for method in ("qlora", "lora"):
    found = memory.plan("llama-3.1-8b", method, batch=1, seq=512, padded=False, gpu="l4")
    note = ", NF4 not checked on a GPU" if method == "qlora" else ""
    print(f"{method:5s} 1 x 512 on an L4: margin {found.margin_gib:.1f} GiB (predicted{note})")

# %%
print(memory.report(memory.plan("llama-3.1-8b", "qlora", batch=2, seq=1024, gpu="l4")))

# %%
for options in (
    {"model": "lama-3.1-8b"},
    {"model": "llama-3.1-8b", "method": "qfull"},
    {"model": "smollm2-135m", "seq": 100_000},
    {"model": "llama-3.1-8b", "gpu": "l4s"},
):
    try:
        memory.plan(**options)
    except LabError as error:
        print("-", error)

# %%
vram_planner.explore()

# %%
cost_estimator.explore()

# %%
print("LoRA takes 3.5 to 4 times QLoRA's memory (guide 001): wrong.")
print("  ", verifications.e16())

# %%
print("Full fine-tuning takes 8 times LoRA's memory (guide 004): imprecise.")
print("  ", verifications.e18())

# %%
checkpoints.ask("05_memory_and_cost")
