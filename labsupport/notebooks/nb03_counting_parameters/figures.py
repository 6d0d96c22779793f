"""The figures of notebook 03."""

from __future__ import annotations

import itertools

from labsupport.configs import model_configs
from labsupport.core import plots
from labsupport.sizes import counting

GROUPS = {
    "embedding and head": (counting.OUTSIDE, plots.GREY),
    "attention": (counting.ATTENTION, plots.BLUE),
    "MLP": (counting.MLP, plots.ORANGE),
}


def where_parameters_sit(names: list[str]):
    """A stacked bar for each model: what share of it embedding and head, attention and MLP have."""
    fig, axes = plots.figure()
    names = names[::-1]
    parts = [counting.model_parts(model_configs.find(name)) for name in names]
    left = [0.0] * len(names)
    for label, (members, colour) in GROUPS.items():
        share = [100 * sum(part[m] for m in members) / sum(part.values()) for part in parts]
        axes.barh(names, share, left=left, color=colour, label=label)
        left = [a + b for a, b in zip(left, share, strict=True)]
    axes.set(xlabel="share of the model's parameters (%)", ylabel="model", xlim=(0, 100))
    axes.set_axisbelow(True)
    fig.legend(ncols=3, loc="outside lower center")
    axes.set_title("Most of a model is MLP; small ones carry a large vocabulary")
    return plots.show(
        fig,
        "Stacked bars for six models: the MLP holds more than half of each, the attention between a tenth "
        "and a third, embedding and head from a few percent in the 70B model to about a fifth in the two "
        "smallest.",
    )


def shares(of_7b: dict[tuple, list[float]], of_small: dict[tuple, float], low: float, high: float):
    """A row for each setting, (targets, rank): LoRA's share of several 7B models and of the small one, in
    percent, with the guides' range from `low` to `high` behind them."""
    fig, axes = plots.figure(height=4.2)
    rows = list(of_7b)[::-1]
    axes.axvspan(low, high, color=plots.GREY, alpha=0.2, linewidth=0, label=f"{low:g} to {high:g} %")
    for place, setting in enumerate(rows):
        many = of_7b[setting]
        first = {"label": f"{len(many)} models of 7 to 8 billion"} if place == 0 else {}
        axes.plot(many, [place] * len(many), "o", color=plots.BLUE, markersize=5, **first)
    axes.plot([of_small[s] for s in rows], range(len(rows)), "D", color=plots.ORANGE, label="SmolLM2-135M")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_yticks(range(len(rows)), [f"{targets}, rank {rank}" for targets, rank in rows])
    axes.set(xlabel="trained, of all parameters (%, logarithmic)", ylabel="targets and rank")
    fig.legend(ncols=3, loc="outside lower center")
    within = sum(low <= share <= high for many in of_7b.values() for share in many)
    small = sum(low <= share <= high for share in of_small.values())
    total = sum(map(len, of_7b.values()))
    axes.set_title(
        f"{low:g} to {high:g} %: {within} of {total} settings at 7B, {small} of {len(rows)} at 135M"
    )
    return plots.show(
        fig,
        f"Dots of LoRA's share for {len(rows)} settings on a logarithmic axis. At 7 to 8 billion {within} of "
        f"{total} lie between {low:g} and {high:g} percent, the others below it at low ranks on q and v and "
        "above it at high ranks on all modules. SmolLM2-135M stands five to ten times further right.",
    )


def recipes(config: dict, wanted: int, found: list[tuple[int, str]], ranks: list[int]):
    """The count per unit of rank of all 127 choices of targets, as one line, and for each rank the height
    that gives `wanted`; found: the (rank, targets) that do."""
    fig, axes = plots.figure(height=3.6)
    each = counting.lora_by_module(config, 1)
    choices = [c for size in range(1, 8) for c in itertools.combinations(each, size)]
    ordered = sorted(choices, key=lambda choice: sum(each[name] for name in choice))
    heights = [sum(each[name] for name in choice) / 1e6 for choice in ordered]
    axes.step(range(1, 128), heights, where="mid", color=plots.BLUE)
    place = {"+".join(choice): number for number, choice in enumerate(ordered, start=1)}
    for rank in ranks:
        height = wanted / rank / 1e6
        matches = [place[targets] for r, targets in found if r == rank]
        axes.axhline(height, color=plots.GREY, linewidth=0.8, linestyle="--")
        axes.plot(matches, [height] * len(matches), "o", color=plots.ORANGE, markersize=5)
        x, side = (0, "left") if height > 1.5 else (127, "right")  # where the curve is not
        axes.text(x, height + 0.03, f"rank {rank}: {len(matches)} recipes", ha=side, va="bottom")
    axes.set(
        xlabel="choices of targets, by their count",
        ylabel="trained parameters\nfor each unit of rank (millions)",
        ylim=(0, 1.12 * wanted / min(ranks) / 1e6),
    )
    axes.set_title(f"{wanted:,} is {len(found)} recipes: where a rank's line meets the curve")
    by_rank = ", ".join(f"{sum(r == rank for r, _ in found)} at rank {rank}" for rank in ranks)
    return plots.show(
        fig,
        f"A rising curve of the parameters per unit of rank for all 127 choices of targets. Dashed lines "
        f"show what each rank would need to train {wanted:,}; dots where they meet the curve: {by_rank}.",
    )
