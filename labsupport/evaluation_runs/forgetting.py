"""The records of the experiments `forgetting` and `replay`: what was gained and what was lost, by epoch."""

from __future__ import annotations

from labsupport.core import plots
from labsupport.core.tables import Table
from labsupport.evaluation import experiments, intervals

SETS = {"test_lookalike": "lookalike", "test_production": "production"}
# arm and learning rate: in words, colour, marker
ARMS = {
    ("lora", 2e-3): ("LoRA, 2e-3", plots.BLUE, "o"),
    ("lora", 5e-4): ("LoRA, 5e-4", plots.BLUE, "v"),
    ("full", 2e-4): ("full, 2e-4", plots.ORANGE, "s"),
    ("replay", 2e-3): ("LoRA, 2e-3, the same replay", plots.GREEN, "D"),
    ("fresh replay", 2e-3): ("LoRA, 2e-3, fresh replay", plots.PURPLE, "^"),
}


def published() -> dict:
    """Both records as one: the arm of `replay` is called "fresh replay"."""
    fresh = experiments.published("replay")["cells"]
    renamed = [cell | {"cell": cell["cell"] | {"arm": "fresh replay"}} for cell in fresh]
    return {"cells": [*experiments.published("forgetting")["cells"], *renamed]}


def runs(record: dict, arm: tuple[str, float]) -> dict[int, dict]:
    """The metrics of an arm, by seed."""
    return {
        cell["cell"]["seed"]: cell["metrics"]
        for cell in record["cells"]
        if (cell["cell"]["arm"], cell["cell"]["learning_rate"]) == arm
    }


def arms(record: dict) -> list[tuple[str, float]]:
    """The arms that the record holds, in the order of ARMS."""
    return [arm for arm in ARMS if runs(record, arm)]


def epochs(record: dict) -> list[int]:
    """The epochs after which everything was scored."""
    return sorted(int(epoch) for epoch in next(iter(runs(record, arms(record)[0]).values()))["scores"])[1:]


def before(record: dict) -> dict:
    """The scores of the untrained model."""
    return next(
        cell["metrics"]["scores"]["0"] for cell in record["cells"] if "0" in cell["metrics"]["scores"]
    )


def scored(record: dict, arm: tuple[str, float], epoch: int) -> dict[int, dict]:
    """An arm's scores after an epoch, by seed; epoch 0 is before training."""
    if epoch == 0:
        return dict.fromkeys(runs(record, arm), before(record))
    return {seed: metrics["scores"][str(epoch)] for seed, metrics in runs(record, arm).items()}


def task_nll(record: dict, arm: tuple[str, float], epoch: int, part: str = "test_lookalike") -> tuple:
    """Nats an answer costs on a test set, mean and 95 % interval over messages and seeds."""
    return _over_seeds(
        scored(record, arm, epoch), lambda found: (found[part]["all"], found[part]["id"], None)
    )


def exact(record: dict, arm: tuple[str, float], epoch: int, part: str = "test_lookalike") -> tuple:
    """Share of right answers (forced), mean and 95 % interval over messages and seeds."""
    return _over_seeds(
        scored(record, arm, epoch), lambda found: (found[part]["exact"], found[part]["id"], None)
    )


def divergence(record: dict, arm: tuple[str, float], epoch: int) -> tuple:
    """KL(before ‖ after) in nats a token of general text, with its 95 % interval over passages and seeds."""
    return _over_seeds(scored(record, arm, epoch), _general("kl"))


def general_change(record: dict, arm: tuple[str, float], epoch: int) -> tuple:
    """How much the NLL of general text has grown, in nats a token, paired by passage, with its interval."""
    start = before(record)["general"]["nll"]

    def change(found: dict) -> tuple:
        values, ids, sizes = _general("nll")(found)
        return [after - one for after, one in zip(values, start, strict=True)], ids, sizes

    return _over_seeds(scored(record, arm, epoch), change)


def canary_change(record: dict, arm: tuple[str, float], epoch: int) -> tuple:
    """Change of the share of the canary's questions answered right, paired by question, with its interval."""
    start = before(record)["canary"]

    def change(found: dict) -> tuple:
        values = [after - one for after, one in zip(found["canary"], start, strict=True)]
        return values, [str(number) for number in range(len(values))], None

    return _over_seeds(scored(record, arm, epoch), change)


def _general(name: str):
    return lambda found: (found["general"][name], found["general"]["id"], found["general"]["tokens"])


def _over_seeds(by_seed: dict[int, dict], read) -> tuple[float, float, float]:
    """An interval over the rows of all seeds. read: scores -> (values, families, sizes or None)."""
    values, families, seeds, sizes = [], [], [], []
    for seed, found in by_seed.items():
        own, ids, counts = read(found)
        values += own
        families += ids
        seeds += [seed] * len(own)
        sizes += counts or [1] * len(own)
    return intervals.interval(values, families, seeds, sizes=sizes)


# ---------------------------------------------------------------- shown


def frontier(record: dict, title: str):
    """Nats an answer costs on lookalike against what became of general text: its divergence, and its NLL. A
    line an arm, a point an epoch, with intervals. Returns the figure, for plots.show."""
    fig, panels = plots.figure(2, height=4.0, sharey=True)
    for axes, measure in zip(panels, (divergence, general_change), strict=True):
        for arm in arms(record):
            name, colour, marker = ARMS[arm]
            points = [(measure(record, arm, e), task_nll(record, arm, e)) for e in epochs(record)]
            places = [[value[0] for value in values] for values in zip(*points, strict=True)]
            axes.plot(*places, marker + "-", color=colour, label=name, markersize=5)
            for (x, *x_ends), (y, *y_ends) in points:
                axes.plot(x_ends, [y, y], color=colour, linewidth=0.6)
                axes.plot([x, x], y_ends, color=colour, linewidth=0.6)
    panels[0].set(xscale="log", yscale="log", ylabel="task: nats an answer, lookalike")
    panels[0].set_xlabel("moved: KL(before ‖ after), nats a token")
    panels[1].set_xlabel("lost: more NLL on general text, nats a token")
    panels[1].axvline(0, color=plots.GREY, linewidth=1)
    panels[0].set_yticks([3, 4, 6, 10, 14], ["3", "4", "6", "10", "14"])
    panels[0].minorticks_off()
    panels[1].legend(fontsize=8, loc="upper right")
    fig.suptitle(title, x=0.02, ha="left")
    return fig


def table(record: dict) -> Table:
    """What each arm had gained and lost after each scored epoch."""
    lines = []
    for arm in arms(record):
        for epoch in epochs(record):
            shares = [100 * exact(record, arm, epoch, part)[0] for part in SETS]
            kl, growth = divergence(record, arm, epoch)[0], general_change(record, arm, epoch)[0]
            lost = [100 * x for x in canary_change(record, arm, epoch)]
            lines.append(
                [
                    ARMS[arm][0],
                    epoch,
                    *(f"{task_nll(record, arm, epoch, part)[0]:.2f}" for part in SETS),
                    *(f"{share:.0f}" for share in shares),
                    f"{kl:.3f}",
                    f"{growth:+.3f}",
                    intervals.shown(lost, "+.0f"),
                ]
            )
    headings = ["arm", "epoch", "lookalike (nats)", "production (nats)", "right, lookalike (%)"]
    headings += ["right, production (%)", "KL (nats a token)", "general NLL", "canary (points) [95 %]"]
    return Table(headings, lines, "One seed; general NLL and canary are changes against before")


def validation(record: dict, arm: tuple[str, float]) -> dict[int, list[float]]:
    """Validation NLL (nats an answer) after every epoch, a list by seed."""
    return {
        seed: [metrics["validation"][epoch]["nll"] for epoch in sorted(metrics["validation"], key=int)]
        for seed, metrics in runs(record, arm).items()
    }


def stops_at(losses: list[float], patience: int) -> int:
    """The epoch (from 1) at which early stopping would end: after `patience` epochs in a row without a new
    minimum; the last epoch if that never happens."""
    best, since = float("inf"), 0
    for epoch, loss in enumerate(losses, start=1):
        best, since = (loss, 0) if loss < best else (best, since + 1)
        if since == patience:
            return epoch
    return len(losses)
