"""The VRAM planner: what a training step needs of a card, by arithmetic at once and by tracing on request.

Nothing here was measured on a GPU: every figure is a prediction.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable

import ipywidgets as widgets

from labsupport.allocations.streams import CATEGORIES, GIB
from labsupport.configs import model_configs
from labsupport.core import dtypes, plots, text
from labsupport.planning import closed_form, evidence, footprint, planner, prose
from labsupport.setups.setup import METHODS, Setup, checked, config_named
from labsupport.sizes import counting, gpus
from labsupport.teaching.explorer_shell import Explorer, View

COLORS = {
    "weights": plots.BLUE,
    "adapters": plots.ORANGE,
    "gradients": "#F0B48A",
    "optimizer": plots.PURPLE,
    "activations": plots.GREEN,
    "logits": plots.GREY,
    "temporaries": "#C8C8C8",
}
MEANING = {
    "weights": "the model as it is loaded",
    "adapters": "A and B, and DoRA's magnitudes: float32, but by TRL on 4 bits bfloat16; none in full tuning",
    "gradients": "of what is trained; not there yet, or not all, before the backward pass ends",
    "optimizer": "two numbers for each one that is trained",
    "activations": "kept for the backward pass, and of one block computed again",
    "logits": "a score for every token and word, in the copies that the loss makes; of TRL a tile at a time",
    "temporaries": "scratch: what passes through a block, and the optimizer's",
}
TRAINERS = {"TRL's SFTTrainer": "sft", "plain loop": "plain"}
CLOSED, TRACE = "closed form (GiB)", "trace (GiB)"
FLOAT32_TOO_HIGH = 1.6  # TRL's autocast computes in 16 bits what this formula counts in the model's dtype
OPTIMIZERS = ("adamw", "adamw_8bit")  # this formula does not know of paged states
LONG = 4096  # tokens a row: beyond, the mask of padded rows, which the closed form leaves out, weighs much


def accuracy(setup: Setup) -> tuple[float, float, float]:
    """How far off the closed form is: (least, most) of closed form / traced peak allocated, and the most of
    traced peak reserved / closed form; 0 and infinity where it grows with the rows without end. Rounded
    outwards from random settings; tests/explorers/test_vram_planner_explorer.py traces the worst of them.
    """
    high = FLOAT32_TOO_HIGH if setup.trainer == "sft" and setup.number_bytes == 4 else closed_form.TOO_HIGH
    if setup.length > LONG:
        return 0.0, high, math.inf
    if setup.method.endswith("dora"):
        return (0.4, high, 2.8) if setup.checkpointing else (0.3, high, 3.5)
    return (0.5, high, 2.2) if setup.trainer == "sft" and not setup.checkpointing else (0.7, high, 1.8)


@functools.cache
def traced_plan(model: str, gpu: str | float, **fields) -> planner.Plan:
    """The traced plan of a model's Setup with these fields. Takes seconds, but once a setting only."""
    return planner.plan(Setup(config_named(model), **fields), gpus.find(gpu), suggest=False)


def view(
    model: str = "llama-3.1-8b",
    method: str = "qlora",
    rank: int = 16,
    targets: str | Iterable[str] = "all-linear",
    batch: int = 4,
    length: int = 512,
    dtype: str = "bf16",
    checkpointing: bool = True,
    optimizer: str = "adamw",
    gpu: str | float = "l4",
    trainer: str = "sft",
    accumulation: int = 1,
    trace: int = 0,
) -> View:
    """Peak memory of one training step against a card's, by the closed form and, with trace=1, also traced.

    batch in rows a micro-batch, length in tokens a row; targets: a set such as "q+v" or names of linear
    layers; gpu: a card's name or its GiB; trainer: "sft" (TRL's SFTTrainer) or "plain" (a loop with full
    logits); accumulation: micro-batches a step. The rest is as in `lab.py plan`: padded rows, sdpa, double
    quantisation, all tokens supervised. LabError for what cannot be planned.
    """
    fields = {
        "method": method,
        "rank": rank,
        "targets": counting.target_names(targets),
        "batch": batch,
        "length": length,
        "dtype": dtype,
        "checkpointing": checkpointing,
        "optimizer": optimizer,
        "trainer": trainer,
        "accumulation": accumulation,
    }
    setup = checked(Setup(config_named(model), **fields))
    card = gpus.find(gpu)
    usable = footprint.usable_gib(card)
    phase, parts = closed_form.peak_parts(setup)
    parts = {name: size / GIB for name, size in parts.items()}
    plan = traced_plan(model, gpu, **fields) if trace else None
    if plan:
        heading = (
            f"Traced, a prediction: at its peak, in the phase {plan.phase}, it allocates "
            f"{text.size(plan.peak_allocated_gib)} GiB and reserves {text.size(plan.peak_reserved_gib)} GiB; "
            f"{verdict(plan.margin_gib, card)}"
        )
    else:
        peak = sum(parts.values())
        heading = (
            f"By the closed form, a prediction: at its peak, in the phase {phase}, it allocates "
            f"{text.size(peak)} GiB; {verdict(usable - peak, card, is_doubtful(setup, peak, usable))}"
        )
    heading += "."
    what = f"{method} of {model} by {trainer}, {batch} x {length:,} tokens"
    return View(heading, table(setup, card, parts, phase, plan), *figure(what, setup, card, parts, plan))


def is_doubtful(setup: Setup, peak: float, usable: float) -> bool:
    """Whether the closed form may be so far off that the card's line lies within its error."""
    _, high, reserved = accuracy(setup)
    return peak / high <= usable < peak * reserved


def verdict(margin: float, card: gpus.Card, unsure: bool = False) -> str:
    """Whether it fits, and by how much, as the end of a sentence."""
    words = f"{text.size(abs(margin))} GiB {'to spare' if margin >= 0 else 'too much'}"
    if unsure:
        return f"{words} for {card.sold_as}, but this formula is too rough to decide: trace it"
    return f"it {'fits' if margin >= 0 else 'does not fit'} {card.sold_as}, {words}"


def table(setup: Setup, card: gpus.Card, parts: dict, phase: str, plan: planner.Plan | None):
    """A row for each category, then the peak, what the allocator holds, the card, what is left, and whether
    such a run was ever measured."""
    usable = footprint.usable_gib(card)
    peak = sum(parts.values())
    rows = []
    for name in CATEGORIES:
        note = MEANING[name] + (", NF4 inside the blocks" if name == "weights" and setup.four_bit else "")
        rows.append(table_row(name, parts.get(name, 0.0), plan and plan.split_gib[name], note))
    card_note = (
        f"{card.memory_gib:g} less {footprint.CONTEXT_GIB:g} for CUDA's context, not checked on this card"
    )
    rows += [
        table_row("peak allocated", peak, plan and plan.peak_allocated_gib, accuracy_note(setup)),
        table_row(
            "in the phase", phase, plan and plan.phase, "the highest of loss, backward pass, optimizer's step"
        ),
        table_row("peak reserved", "unknown", plan and plan.peak_reserved_gib, "taken where there is enough"),
        table_row("needed", "unknown", plan and plan.needed_gib, "with what is unused handed back first"),
        table_row(
            f"room on {card.sold_as}",
            usable,
            plan and usable,
            " ".join([card_note, *prose.about_card(setup, card)]),
        ),
        table_row(
            "margin", usable - peak, plan and plan.margin_gib, "room less allocated; traced: less needed"
        ),
        table_row("measured", measured(setup), plan and measured(setup), "published runs of this kind"),
    ]
    return rows


def measured(setup: Setup) -> str:
    """Whether others published measurements of runs of this kind."""
    count = len(evidence.covering(setup))
    return f"{count} runs" if count else "UNVERIFIED on a GPU"


def table_row(name: str, closed, trace, note: str) -> dict:
    """One line of the table. trace: None where nothing was traced, which leaves the column out."""

    def cell(value: float | str) -> str:
        return value if isinstance(value, str) else text.size(value)

    found = {"": name, CLOSED: cell(closed)}
    return found | ({} if trace is None else {TRACE: cell(trace)}) | {"what it is": note}


def accuracy_note(setup: Setup) -> str:
    """What may be said of the closed form for such a setting."""
    if setup.length > LONG:
        return f"the closed form may be far too low for padded rows over {LONG:,} tokens: trace it"
    low, high, _ = accuracy(setup)
    found = f"the closed form gives {low:.0%} to {high:.0%} of the trace in the settings tested"
    return f"{found} with DoRA: trace it" if setup.method.endswith("dora") else found


def figure(what: str, setup: Setup, card: gpus.Card, parts: dict, plan: planner.Plan | None):
    """(figure, alt): a stacked bar for the closed form, if traced one for the trace, and the card's line."""
    usable = footprint.usable_gib(card)
    bars = {"closed form": parts} | ({"trace": plan.split_gib} if plan else {})
    top = max(
        usable, *(sum(sizes.values()) for sizes in bars.values()), plan.peak_reserved_gib if plan else 0
    )
    height = 2.0 + 0.6 * bool(plan)  # a bar more
    fig, axes = plots.figure(height=height, place=(0.12, 0.86 / height, 0.85, 1 - 1.2 / height))
    axes.set_axisbelow(True)
    pieces = [piece for place, sizes in enumerate(bars.values()) for piece in stacked_pieces(place, sizes)]
    places, names, starts, sizes = zip(*pieces, strict=True)
    axes.barh(places, sizes, left=starts, color=[COLORS[name] for name in names], height=0.6)
    if plan:
        axes.barh(1, plan.peak_reserved_gib, height=0.75, fill=False, edgecolor="black", linestyle=":")
    axes.axvline(usable, color="black", linewidth=1.5)
    axes.set(
        xlim=(0, 1.05 * top),
        ylim=(len(bars) - 0.4, -0.6),
        xlabel=f"GiB, predicted; line: the card{'; dotted: reserved where there is enough' if plan else ''}",
    )
    axes.locator_params(axis="x", nbins=5)
    axes.set_yticks(range(len(bars)), list(bars))
    peak = plan.peak_allocated_gib if plan else sum(parts.values())
    axes.set_title(f"{what}: {text.size(peak)} of {text.size(usable)} GiB on {card.name.upper()}")
    color_key(axes, [name for name in CATEGORIES if name in names])
    shown = "; ".join(f"{name}: {in_words(sizes)}" for name, sizes in bars.items())
    alt = (
        f"Stacked bars of predicted peak memory for {what}, with a line at the {usable:.2f} GiB of "
        f"{card.sold_as}. In GiB, {shown}."
    )
    return fig, alt


def color_key(axes, names: list[str]) -> None:
    """The colours' names in a row below. A true legend takes a quarter of a redraw."""
    places = [0.12 + 0.123 * place for place in range(len(names))]
    colors = [COLORS[name] for name in names]
    height = 0.14 / axes.figure.get_figheight()  # an inch has the same place in a tall figure and a low one
    below = {"transform": axes.figure.transFigure, "clip_on": False}
    axes.scatter(places, [height] * len(names), marker="s", s=60, c=colors, **below)
    for place, name in zip(places, names, strict=True):
        axes.text(place + 0.01, height, name, va="center", **below)


def stacked_pieces(place: int, sizes: dict[str, float]) -> list[tuple]:
    """(place, category, start, size) of each piece of a bar."""
    pieces, start = [], 0.0
    for name in CATEGORIES:
        if size := sizes.get(name, 0.0):
            pieces.append((place, name, start, size))
            start += size
    return pieces


def in_words(sizes: dict[str, float]) -> str:
    return ", ".join(f"{name} {sizes[name]:.2f}" for name in CATEGORIES if sizes.get(name, 0) >= 0.005)


def explore(
    model: str = "llama-3.1-8b",
    method: str = "qlora",
    rank: int = 16,
    targets: str = "all-linear",
    batch: int = 4,
    length: int = 512,
    dtype: str = "bf16",
    checkpointing: bool = True,
    optimizer: str = "adamw",
    gpu: str | float = "l4",
    trainer: str = "sft",
    accumulation: int = 1,
) -> Explorer:
    """The planner with its controls, started at these values. LabError if they are bad."""
    view(
        model,
        method,
        rank,
        targets,
        batch,
        length,
        dtype,
        checkpointing,
        optimizer,
        gpu,
        trainer,
        accumulation,
    )
    card = gpus.find(gpu).name
    drop, whole = widgets.Dropdown, widgets.BoundedIntText
    controls = {
        "model": drop(options=model_configs.llama_like(), value=model.lower(), description="model"),
        "method": drop(options=METHODS, value=method, description="method"),
        "rank": whole(value=rank, min=1, max=1024, description="rank"),
        "targets": drop(options=with_start(counting.SETS, targets), value=targets, description="targets"),
        "batch": whole(value=batch, min=1, max=32, description="batch (rows)"),
        "length": whole(value=length, min=8, max=131_072, description="tokens a row"),
        "trainer": drop(options=TRAINERS.items(), value=trainer, description="trainer"),
        "accumulation": whole(value=accumulation, min=1, max=256, description="micro-batches"),
        "dtype": drop(options=dtypes.SHORT_NAMES, value=dtypes.find(dtype).short, description="dtype"),
        "checkpointing": widgets.Checkbox(
            value=checkpointing, description="activation checkpointing", indent=False
        ),
        "optimizer": drop(options=OPTIMIZERS, value=optimizer, description="optimizer"),
        "gpu": drop(options=with_start(gpus.names(), card), value=card, description="card"),
        "trace": widgets.Button(description="Trace this setting (seconds)"),
    }
    return Explorer(remembering_traces(view), controls, "VRAM planner")


def with_start(known: Iterable[str], start: str) -> list[str]:
    """What a list offers: what is known, and what it starts at."""
    return list(dict.fromkeys((*known, start)))


def remembering_traces(view: Callable[..., View]) -> Callable[..., View]:
    """An explorer's `view`, but with `trace` as a number of presses: a new one asks to trace the setting that
    stands, and a setting once asked for is shown traced whenever it stands again."""
    presses, asked = 0, set()

    def render(trace: int, **setting) -> View:
        nonlocal presses
        now = tuple(setting.values())
        if trace > presses:
            presses = trace
            asked.add(now)
        return view(**setting, trace=now in asked)

    return render
