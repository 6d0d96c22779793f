"""Figures of memory: over a step, by what it is made of, beside what others published, and on a card."""

from __future__ import annotations

from labsupport.allocations import moments, streams
from labsupport.allocations.streams import GIB
from labsupport.core import plots
from labsupport.planning import evidence, footprint
from labsupport.setups.setup import FOUR_BIT, Setup
from labsupport.sizes import gpus

# From the ground up: what stands first, what comes and goes above it. As in the drawing at the head.
PARTS = {
    "weights": (("weights",), plots.GREY),
    "adapters and moments": (("adapters", "optimizer"), plots.PURPLE),
    "activations and scratch": (("activations", "temporaries"), plots.BLUE),
    "logits": (("logits",), plots.ORANGE),
    "gradients": (("gradients",), plots.GREEN),
}
STANDING = 2  # so many of PARTS, the first, are there all the time
POINTS = 120  # drawn of each phase; each shows the highest of the moments that it stands for
TRAINERS = {"plain": ("plain loop", plots.ORANGE), "sft": ("TRL's SFTTrainer", plots.BLUE)}


def stacked(live: dict) -> list[float]:
    """GiB of each of PARTS."""
    return [sum(live.get(name, 0) for name in names) / GIB for names, _ in PARTS.values()]


def drawn_moments(stream: streams.Stream) -> tuple[list[float], list[list[float]]]:
    """Places along a step and the GiB of PARTS there. Each phase has a width of 1: the loss has a hundred
    moments where the backward pass has twelve thousand, and nobody would see it."""
    places, heights = [], []
    everything = moments.of_second_step(stream)
    for number, phase in enumerate(moments.PHASES):
        here = [live for name, live in everything if name == phase]
        points = min(POINTS, len(here))
        for point in range(points):
            some = here[point * len(here) // points : (point + 1) * len(here) // points]
            places.append(number + (point + 0.5) / points)
            heights.append(stacked(max(some, key=lambda live: live.total())))
    return places, heights


def phase_axis(axes) -> None:
    """The four phases along the bottom, each given the same width."""
    axes.set(xlim=(0, len(moments.PHASES)), xlabel="phases of a step, each given the same width")
    axes.set_xticks([number + 0.5 for number in range(len(moments.PHASES))], moments.PHASES)
    axes.grid(visible=False, axis="x")
    for border in range(1, len(moments.PHASES)):
        axes.axvline(border, color="#BBBBBB", linewidth=0.8)


def two_trainers(named: dict[str, streams.Stream], title: str, told: dict[str, tuple]):
    """Memory over one step for both trainers on the same axes.

    named: trainer -> its stream. told: trainer -> (place, height, words) of a remark beside its curve.
    """
    fig, axes = plots.figure(height=4.2)
    ground = []
    for trainer, stream in named.items():
        label, colour = TRAINERS[trainer]
        places, heights = drawn_moments(stream)
        totals = [sum(parts) for parts in heights]
        ground.append(min(sum(parts[:STANDING]) for parts in heights))
        axes.plot(places, totals, color=colour, linewidth=1.6, label=label)
        peak = totals.index(max(totals))
        offset, side = ((0, 5), "center") if trainer == "plain" else ((-6, -3), "right")
        look = {"color": colour, "weight": "bold", "ha": side}
        at = (places[peak], totals[peak])
        axes.annotate(f"{max(totals):.1f} GiB", at, offset, textcoords="offset points", **look)
        *place, words = told[trainer]
        axes.text(*place, words, color=colour, va="top")
    axes.axhspan(
        0, min(ground), color=plots.GREY, alpha=0.25, label="what stands: weights, adapters, moments"
    )
    phase_axis(axes)
    axes.set(ylabel="GiB alive (predicted)", ylim=(0, 1.12 * axes.get_ylim()[1]), title=title)
    axes.legend(loc="upper right")
    return fig


def over_a_step(named: dict[str, streams.Stream], title: str):
    """What memory is made of over a step, a panel for each stream."""
    fig, panels = plots.figure(columns=len(named), sharey=True, height=3.8)
    colours = [colour for _, colour in PARTS.values()]
    for axes, (name, stream) in zip(panels, named.items(), strict=True):
        places, heights = drawn_moments(stream)
        axes.stackplot(places, list(zip(*heights, strict=True)), labels=list(PARTS), colors=colours)
        totals = [sum(parts) for parts in heights]
        peak = totals.index(max(totals))
        text = f"peak {streams.peak(stream).bytes / GIB:.1f}"
        axes.annotate(text, (places[peak], totals[peak]), (0, 4), textcoords="offset points", ha="center")
        phase_axis(axes)
        axes.set(title=name)
    panels[0].set(ylabel="GiB alive (predicted)", ylim=(0, 1.12 * panels[0].get_ylim()[1]))
    fig.legend(*panels[0].get_legend_handles_labels(), ncols=len(PARTS), loc="outside lower center")
    fig.suptitle(title, x=0.02, ha="left")
    return fig


def by_vocabulary(found: dict[str, dict[int, float]], title: str):
    """Peak by the entries of the vocabulary. found: trainer -> entries -> GiB beside the weights."""
    fig, axes = plots.figure(height=3.4)
    for trainer, points in found.items():
        label, colour = TRAINERS[trainer]
        axes.plot(list(points), list(points.values()), marker="o", color=colour, label=label)
        last = list(points)[-1]
        axes.annotate(
            f"{points[last]:.1f}", (last, points[last]), (-6, 6), textcoords="offset points", ha="right"
        )
    entries = list(next(iter(found.values())))
    axes.set_xticks(entries, [f"{count:,}" for count in entries])
    axes.set(ylim=(0, None), xlabel="entries of the vocabulary", ylabel="GiB beside the weights\n(predicted)")
    axes.set_title(title)
    axes.legend()
    return fig


def against_published(found: list[evidence.Compared], title: str):
    """A dot for each published run, sorted: predicted over published memory."""
    found = sorted(found, key=lambda one: one.ratio)
    fig, axes = plots.figure(height=1.4 + 0.2 * len(found))
    for place, one in enumerate(found):
        colour = plots.PURPLE if one.row["method"] in FOUR_BIT else plots.GREY
        axes.plot(one.ratio, place, "o", color=colour)
    for colour, label in ((plots.PURPLE, "4 bits"), (plots.GREY, "16 bits")):
        axes.plot([], [], "o", color=colour, label=label)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.axvspan(0.97, 1.03, color=plots.GREEN, alpha=0.12, label="within 3 %")
    axes.set_yticks(range(len(found)), [evidence.described(one.row) for one in found], fontsize=7.5)
    axes.set(xlabel="predicted over published", title=title)
    reach = max(0.06, *(1.15 * abs(one.ratio - 1) for one in found))
    axes.set_xlim(1 - reach, 1 + reach)
    axes.legend(loc="lower right")
    return fig


def against_a_card(runs: dict[str, list[Setup]], card: gpus.Card, title: str):
    """Bars of what a card holds at the most, a panel for each list of runs, and the card's memory as a line.

    A bar is allocated memory by parts, what PyTorch keeps reserved above it where it may, and CUDA's context,
    because all of these lie in the card's memory.
    """
    fig, panels = plots.figure(columns=len(runs), sharey=True, height=3.8)
    colours = [colour for _, colour in PARTS.values()]
    labels = [*PARTS, "reserved, not in use", "CUDA itself"]
    for axes, (name, setups) in zip(panels, runs.items(), strict=True):
        bars = [bar(setup, card) for setup in setups]
        below = [0.0] * len(bars)
        lengths = [f"{setup.batch * setup.length:,}" for setup in setups]
        shown = zip(labels, [*colours, "white", "black"], zip(*bars, strict=True), strict=True)
        for label, colour, part in shown:
            dots = {"hatch": "....", "edgecolor": plots.GREY} if colour == "white" else {}
            axes.bar(lengths, part, bottom=below, color=colour, label=label, **dots)
            below = [low + more for low, more in zip(below, part, strict=True)]
        axes.axhline(card.memory_gib, color="black", linewidth=1, linestyle="--")
        axes.set(xlabel="tokens a step")
        axes.set_title(name, fontsize=9)
    panels[0].set_ylabel("GiB of the card (predicted)")
    drawn = [bars for bars in panels[0].containers if any(bar.get_height() for bar in bars)]
    fig.legend(handles=drawn, ncols=3, loc="outside lower center")
    fig.suptitle(title, x=0.02, ha="left")
    return fig


def bar(setup: Setup, card: gpus.Card) -> list[float]:
    """GiB: the parts allocated at the peak, what is reserved beyond them, CUDA's context."""
    stream = footprint.stream_of(setup)
    peak = streams.peak(stream)
    idle = footprint.reserved_bytes(setup, stream, card) - peak.bytes
    return [*stacked(peak.split), max(0, idle) / GIB, footprint.CONTEXT_GIB]
