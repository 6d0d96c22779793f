"""What the first fine-tune shows, computed from the published record of its run."""

from __future__ import annotations

from labsupport.configs import model_configs
from labsupport.evaluation import experiments
from labsupport.sizes import counting
from labsupport.teaching.claims import shows


def of_model(model: str) -> list[dict]:
    """The cells of the published record with that model, "base" or "lora", one a seed."""
    cells = experiments.published("first_fine_tune")["cells"]
    return [cell for cell in cells if cell["cell"]["model"] == model]


@shows("H21")
def a_cpu_fine_tunes_in_minutes() -> str:
    """Time and outcome of the first recorded fine-tune, whose stamp says that no GPU took part; and its time
    by parameters for the model of the guide's module."""
    metrics, stamp = of_model("lora")[0]["metrics"], of_model("lora")[0]["stamp"]
    losses = [entry["loss"] for entry in metrics["log"] if "loss" in entry]
    sizes = [counting.model_parameters(model_configs.find(name)) for name in ("smollm2-135m", "llama-3.1-8b")]
    times = sizes[1] / sizes[0]
    minutes, hours = metrics["seconds"] / 60, times * metrics["seconds"] / 3600
    return (
        f"135M: {metrics['tokens']:,} tokens in {minutes:.3g} minutes on {stamp['threads']} CPU threads, "
        f"loss {losses[0]:.3g} to {losses[-1]:.3g}; Llama-3.1-8B has {times:.2g} times the parameters: "
        f"{hours:.2g} hours"
    )


@shows("M10")
def exact_match_falls_in_production() -> str:
    """Forced replies of the tuned model and of its base, over all recorded seeds; the notebook prints the
    intervals."""
    parts = []
    for name in ("lookalike", "production"):
        shares = []
        for model in ("lora", "base"):
            exact = [result["exact"] for run in of_model(model) for result in run["metrics"][f"test_{name}"]]
            shares.append(f"{100 * sum(exact) / len(exact):.3g} % of {len(exact)}")
        parts.append(f"{name} {shares[0]} (base {shares[1]})")
    return f"exact match: {', '.join(parts)}"
