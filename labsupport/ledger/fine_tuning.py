"""What the first fine-tune shows, computed from the published record of its run."""

from __future__ import annotations

from labsupport.evaluation import experiments
from labsupport.teaching.claims import shows


def tuned() -> list[dict]:
    """The cells of the published record with a fine-tuned model, one a seed."""
    cells = experiments.published("first_fine_tune")["cells"]
    return [cell for cell in cells if cell["cell"]["model"] == "lora"]


@shows("H21")
def a_cpu_fine_tunes_in_minutes() -> str:
    """Time and outcome of the first recorded fine-tune; its stamp says that no GPU took part."""
    metrics, stamp = tuned()[0]["metrics"], tuned()[0]["stamp"]
    losses = [entry["loss"] for entry in metrics["log"] if "loss" in entry]
    return (
        f"{metrics['tokens']:,} tokens in {metrics['seconds'] / 60:.3g} minutes on {stamp['threads']} CPU "
        f"threads; loss {losses[0]:.3g} to {losses[-1]:.3g}"
    )


@shows("M10")
def exact_match_falls_in_production() -> str:
    """Forced replies, over all recorded seeds; the notebook prints the intervals."""
    parts = []
    for name in ("lookalike", "production"):
        exact = [result["exact"] for run in tuned() for result in run["metrics"][f"test_{name}"]]
        parts.append(f"{name} {100 * sum(exact) / len(exact):.3g} % of {len(exact)}")
    return f"exact match: {', '.join(parts)}"
