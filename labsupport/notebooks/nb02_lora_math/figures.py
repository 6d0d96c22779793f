"""The larger figures of notebook 02."""

from __future__ import annotations

import statistics

from labsupport.core import plots
from labsupport.experiments import spectrum_experiment
from labsupport.updates import first_steps, spectra

RULES = {"alpha fixed": (plots.BLUE, "o"), "alpha = 2r": (plots.ORANGE, "s"), "rsLoRA": (plots.GREEN, "^")}


def growth(ranks: list[int], panels: dict[str, dict[str, list[float]]]):
    """Change of the output over the rank, rank 4 = 1: a panel for each kind of inputs, a line a rule."""
    fig, axes = plots.figure(len(panels), sharey=True)
    for panel, (name, by_rule) in zip(axes, panels.items(), strict=True):
        for rule, (colour, marker) in RULES.items():
            sizes = [change / by_rule[rule][0] for change in by_rule[rule]]
            panel.plot(ranks, sizes, color=colour, marker=marker, label=rule)
        panel.axhline(1, color=plots.GREY, linewidth=0.8)
        panel.set(xlabel="rank", title=name, xscale="log", yscale="log")
        panel.set_xticks(ranks, ranks)
        panel.minorticks_off()
    axes[0].set_ylabel("first change of the output\n(rank 4 = 1)")
    axes[0].legend()
    return fig


def exponents(cells: list[dict], ranks: list[int]):
    """The exponent of growth with alpha fixed, over the alignment of inputs and gradient; lines: theory."""
    fig, axes = plots.figure(height=3.6)
    grid = [i / 50 for i in range(51)]
    for optimizer, colour, marker, factor in (("adam", plots.BLUE, "o", 1), ("sgd", plots.ORANGE, "s", 2)):
        points = []
        for cell in cells:
            if cell["cell"]["optimizer"] == optimizer:
                found = cell["metrics"]
                for place in ("seen 1", "fresh 1"):
                    measured = statistics.mean(found["exponent"]["alpha fixed"][place])
                    points.append((found["alignment"][place], measured))
        axes.plot(*zip(*points, strict=True), marker, color=colour, label=f"{optimizer}, measured")
        theory = [first_steps.expected_exponent(optimizer, c, ranks) - factor for c in grid]
        axes.plot(grid, theory, color=colour, linestyle="--", label=f"{optimizer}, expected")
    axes.set(xlabel="alignment of the inputs with the gradient's rows (rms cosine)", ylabel="exponent of r")
    axes.set_title("With alpha fixed: the more the inputs point along the gradient, the less r matters")
    axes.legend(fontsize=8)
    return fig


def energy(arms: dict[str, dict], styles: dict[str, tuple[str, str]]):
    """Energy kept over the rank as a share of the largest possible, for three kinds of matrices."""
    fig, axes = plots.figure(3, height=3.6, sharey=True)
    for panel, module in zip(axes, ("q_proj", "v_proj", "down_proj"), strict=True):
        for arm, (colour, line) in styles.items():
            matrices = [m for m in arms[arm]["matrices"] if m["module"] == module]
            largest = min(matrices[0]["shape"])
            curve = [
                100 * statistics.median(values)
                for values in zip(*(m["energy"] for m in matrices), strict=True)
            ]
            kept = [(r, c) for r, c in zip(spectrum_experiment.RANKS, curve, strict=True) if r <= largest]
            panel.plot(
                [100 * r / largest for r, _ in kept], [c for _, c in kept], line, color=colour, label=arm
            )
        noise = 100 * spectra.energy_curve(spectra.of_random_signs(*matrices[0]["shape"]))
        shares = [100 * (i + 1) / len(noise) for i in range(len(noise))]
        panel.plot(shares, noise, color=plots.GREY, linestyle=":", label="random signs")
        panel.set(xlabel="rank, % of the largest", title=f"{module} (at most {largest})")
    axes[0].set_ylabel("energy kept (%)")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig


def kept_by_field(gains: dict[str, dict[int, float]]):
    """Share of each field's gain over the rank that every update is cut to."""
    fig, axes = plots.figure()
    colours = (plots.BLUE, plots.ORANGE, plots.GREEN, plots.PURPLE, plots.GREY)
    for (name, gain), colour, marker in zip(gains.items(), colours, "os^Dv", strict=False):
        ranks = [rank for rank in gain if rank]
        axes.plot(ranks, [gain[rank] for rank in ranks], color=colour, marker=marker, label=name)
    axes.set(xlabel="rank that every update is cut to", ylabel="gain kept (%)", xscale="log")
    axes.set_xticks(ranks, ranks)
    axes.minorticks_off()
    axes.legend()
    return fig
