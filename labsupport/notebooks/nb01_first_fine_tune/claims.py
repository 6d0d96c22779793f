"""Notebook 01's claims, computed from the published record of its run."""

from __future__ import annotations

import functools


@functools.cache
def runs(which: str) -> list[dict]:
    """The cells of the published record for one model, "lora" or "base"."""
    from labsupport.evaluation import experiments

    cells = experiments.published("first_fine_tune")["cells"]
    return [cell for cell in cells if cell["cell"]["model"] == which]


def h21() -> str:
    """Time and outcome of the first recorded fine-tune; its stamp says that no GPU took part."""
    run = runs("lora")[0]
    metrics, stamp = run["metrics"], run["stamp"]
    losses = [entry["loss"] for entry in metrics["log"] if "loss" in entry]
    return (
        f"{metrics['tokens']:,} tokens in {metrics['seconds'] / 60:.3g} minutes on {stamp['threads']} CPU "
        f"threads; loss {losses[0]:.3g} to {losses[-1]:.3g}"
    )


def m10() -> str:
    """Exact match (forced) of the tuned model on both test sets; the notebook prints the intervals."""
    return "exact match: " + ", ".join(exact_match(name) for name in ("lookalike", "production"))


def exact_match(name: str) -> str:
    """Share of a test set's rows with all four fields right, over all recorded seeds."""
    exact = [result["exact"] for run in runs("lora") for result in run["metrics"][f"test_{name}"]]
    return f"{name} {100 * sum(exact) / len(exact):.3g} % of {len(exact)}"
