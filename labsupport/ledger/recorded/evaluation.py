"""The claims about evaluation, stopping, forgetting and failure that notebook 07 settles."""

from __future__ import annotations

from labsupport.evaluation import experiments, intervals, power
from labsupport.evaluation_runs import conditions, forgetting, judging
from labsupport.teaching.claims import shows

LORA, SLOWER, FULL = ("lora", 2e-3), ("lora", 5e-4), ("full", 2e-4)
REPLAY, FRESH = ("replay", 2e-3), ("fresh replay", 2e-3)
LAST = 8  # epochs


def record() -> dict:
    return forgetting.published()


def points(interval: tuple[float, float, float]) -> str:
    """A change of a share in points, with its interval."""
    mean, low, high = (100 * x for x in interval)
    return f"{mean:+.0f} points [{low:+.0f}, {high:+.0f}]"


def nats(interval: tuple[float, float, float]) -> str:
    return intervals.shown(interval, ".3f")


# ---------------------------------------------------------------- how many rows


@shows("M1")
def two_hundred_rows() -> str:
    """What 200 paired rows show at 80 % power, and what the guide's own example needs."""
    seen = power.detectable_difference(0.10, 200)
    rows = power.rows_needed(0.10, 0.03)
    return (
        f"paired, methods disagreeing on 10 % of the rows: 200 rows show {100 * seen:.1f} points, and the "
        f"3 points from 91 to 94 % need {rows:,} rows"
    )


@shows("M2")
def a_slice_of_a_benchmark() -> str:
    """Fisher's exact test of 71 against 58 % on slices of 50 and 100 questions, held beside each other."""
    from scipy.stats import fisher_exact

    found = []
    for n in (50, 100):
        before, after = round(0.71 * n), round(0.58 * n)
        p = fisher_exact([[before, n - before], [after, n - after]]).pvalue
        found.append(f"{before} and {after} of {n}: p = {p:.2f}")
    paired = power.rows_needed(0.25, 0.13)
    return f"{'; '.join(found)}; asked in pairs, with 25 % changing sides, {paired} questions are enough"


# ---------------------------------------------------------------- stopping and forgetting


@shows("M3")
def when_validation_stalls() -> str:
    """Where the rule would have stopped each run, and how many epochs were the best."""
    stops, best = [], []
    for arm in forgetting.arms(record()):
        for losses in forgetting.validation(record(), arm).values():
            stops.append(forgetting.stops_at(losses, patience=2))
            best.append(losses.index(min(losses)) + 1)
    return (
        f"{len(stops)} runs of {LAST} epochs: the rule stops after epoch {', '.join(map(str, stops))}; "
        f"the lowest "
        f"validation loss stands at epoch {', '.join(map(str, best))}"
    )


@shows("M12")
def a_benchmark_falls_while_the_task_gains() -> str:
    """Task and canary after 8 epochs of LoRA, against epoch 3 and before."""
    exact = [100 * forgetting.exact(record(), LORA, epoch)[0] for epoch in (3, 5, LAST)]
    lost = forgetting.canary_change(record(), LORA, LAST)
    return (
        f"LoRA, epochs 3, 5, 8: {exact[0]:.0f}, {exact[1]:.0f}, {exact[2]:.0f} % right on the task; "
        f"canary after 8 "
        f"against before {points(lost)}; KL {nats(forgetting.divergence(record(), LORA, LAST))} nats a token"
    )


@shows("I3")
def how_much_lora_forgets() -> str:
    """Task, divergence and growth of the NLL on general text after 8 epochs: LoRA and full fine-tuning."""
    parts = []
    for name, arm in (("LoRA 2e-3", LORA), ("LoRA 5e-4", SLOWER), ("full 2e-4", FULL)):
        kl = nats(forgetting.divergence(record(), arm, LAST))
        growth = forgetting.general_change(record(), arm, LAST)[0]
        task = forgetting.task_nll(record(), arm, LAST)[0]
        parts.append(f"{name} KL {kl}, NLL {growth:+.3f}, task {task:.2f}")
    return f"after 8 epochs on 64 rows, nats a token of general text and an answer: {'; '.join(parts)}"


@shows("M15")
def general_rows_mixed_in() -> str:
    """NLL of general text and canary after 8 epochs with 15 % general rows, the same and fresh ones."""
    parts = []
    for name, arm in (("none", LORA), ("the same 11 in each epoch", REPLAY), ("fresh ones", FRESH)):
        growth, low, high = forgetting.general_change(record(), arm, LAST)
        lost = points(forgetting.canary_change(record(), arm, LAST))
        parts.append(f"{name} NLL {growth:+.2f} [{low:+.2f}, {high:+.2f}], canary {lost}")
    return f"general rows among those of LoRA, 15 %, after 8 epochs: {'; '.join(parts)}"


@shows("H6")
def after_one_epoch() -> str:
    """Validation loss of LoRA after 1 epoch, and its lowest and last of 8."""
    found = [
        f"{losses[0]:.1f} after 1 epoch, {min(losses):.1f} at best (epoch {losses.index(min(losses)) + 1}), "
        f"{losses[-1]:.1f} after 8"
        for losses in forgetting.validation(record(), LORA).values()
    ]
    return f"LoRA on 64 rows, validation nats an answer, by seed: {'; '.join(found)}"


# ---------------------------------------------------------------- the evaluation itself


@shows("M11")
def one_process_for_both_sets() -> str:
    """What the intent costs the model of faulty labels, under the same faulty labels and the right ones."""
    found = judging.process_nats(experiments.published("one_process"), experiments.published("chat_formats"))
    parts = [f"{name} {intervals.shown(shares['all'], '.2f')}" for name, shares in found.items()]
    return f"nats of the intent token: {'; '.join(parts)}"


@shows("J5")
def adapter_or_merged() -> str:
    """Exact match of the merged model less that of base and adapter, in two number formats."""
    found = conditions.part(experiments.published("evaluation_conditions"), "scoring")
    pairs = (("bfloat16, merged", conditions.REFERENCE), ("float32, merged", "float32"))
    parts = []
    for merged, apart in pairs:
        moved = [
            abs(a - b)
            for a, b in zip(
                *(conditions.both_sets(found[way])["nll"] for way in (merged, apart)), strict=True
            )
        ]
        verdicts = zip(*(conditions.both_sets(found[way])["exact"] for way in (merged, apart)), strict=True)
        flips = sum(a != b for a, b in verdicts)
        parts.append(f"{apart.split(',')[0]}: largest change {max(moved):.2g} nats, {flips} verdicts differ")
    return f"merged against adapter, {len(moved)} answers; {'; '.join(parts)}"


@shows("M13")
def structure_that_is_guaranteed() -> str:
    """Valid replies of the fine-tune, plain and under a grammar, and of the untuned model under it."""
    record = experiments.published("evaluation_conditions")
    parts = []
    for way in (conditions.GREEDY, "constrained", "constrained, untuned"):
        both = [conditions.judged(record, way, split) for split in conditions.SETS]
        valid = sum(sum(found["valid"]) for found in both)
        right = sum(sum(found["right"]) for found in both)
        count = sum(len(found["valid"]) for found in both)
        name = "fine-tuned" if way == conditions.GREEDY else way
        parts.append(f"{name} {valid:.0f} of {count} valid, {right:.0f} right")
    return "; ".join(parts)
