"""Figures of notebook 08: gaps between the arms, and loss curves side by side."""

from __future__ import annotations

from labsupport.core import plots
from labsupport.qlora_runs import reading

MARKS = {"test_lookalike": ("o", plots.BLUE), "test_production": ("s", plots.ORANGE)}


def gaps(record: dict, title: str):
    """A line for each arm but full precision: its nats an answer more, with intervals, both sets."""
    arms = [arm for arm in reading.NAMES if arm != "full"]
    fig, axis = plots.figure(height=2.6)
    for shift, (split, (mark, colour)) in zip((0.14, -0.14), MARKS.items(), strict=True):
        found = [reading.gap(record, arm, "full", split, "answer") for arm in arms]
        places = [len(arms) - 1 - i + shift for i in range(len(arms))]
        means = [mean for mean, _, _ in found]
        below = [mean - low for mean, low, _ in found]
        above = [high - mean for mean, _, high in found]
        style = {"fmt": mark, "color": colour, "capsize": 3, "label": reading.SETS[split]}
        axis.errorbar(means, places, xerr=[below, above], **style)
    axis.axvline(0, color=plots.GREY, lw=1)
    axis.set_yticks(range(len(arms)), [reading.NAMES[arm] for arm in reversed(arms)])
    axis.set(xlabel="nats an answer more than full precision (right of 0 is worse)", title=title)
    axis.margins(y=0.2)
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return fig


def curves(record: dict, seed: int, title: str):
    """Left the training loss of one seed, full precision and NF4; right their difference, step by step, in
    every seed."""
    fig, (left, right) = plots.figure(2, height=3)
    for arm, colour, style in (("full", plots.BLUE, "-"), ("nf4", plots.ORANGE, "--")):
        losses = reading.cells(record, arm)[seed]["losses"]
        left.plot(range(1, len(losses) + 1), losses, style, color=colour, label=reading.NAMES[arm])
    left.set(yscale="log", xlabel="step", ylabel="loss, nats a token", title=f"{title}: seed {seed}")
    left.set_yticks([0.2, 0.5, 1, 2], ["0.2", "0.5", "1", "2"])
    left.minorticks_off()
    left.legend()
    theirs = reading.cells(record, "full")
    for number, metrics in reading.cells(record, "nf4").items():
        pairs = zip(metrics["losses"], theirs[number]["losses"], strict=True)
        apart = [ours - full for ours, full in pairs]
        right.plot(range(1, len(apart) + 1), apart, color=plots.ORANGE, alpha=0.5, lw=1)
    right.axhline(0, color=plots.GREY, lw=1)
    right.axvspan(1, reading.CALM + 0.5, color=plots.GREY, alpha=0.12, lw=0)
    right.set(xlabel="step", ylabel="NF4 less full, nats a token", title="The same batches, all seeds")
    return fig
