"""What notebook 00 settles: each function computes the measured value of one claim."""

from __future__ import annotations

from labsupport.baselines import comparisons, decision
from labsupport.evaluation import experiments, metrics


def _share(results: dict, split: str) -> str:
    mean, low, high = (100 * value for value in comparisons.interval(results[split], split))
    return f"{mean:.3g} % [{low:.3g}, {high:.3g}]"


def _best_prompt(record: dict, split: str) -> str:
    names = [name for name in comparisons.methods(record) if name.split(" ")[0] in comparisons.PROMPTED]
    return comparisons.best(record, names, split)


def n7() -> str:
    """The best prompted baseline's exact match on both sets."""
    record = experiments.published("baselines")
    methods = comparisons.methods(record)
    names = {split: _best_prompt(record, split) for split in comparisons.SETS}
    return "exact match: " + "; ".join(
        f"{split} {_share(methods[name], split)} ({name})" for split, name in names.items()
    )


def n8() -> str:
    """Rules minus the best prompt, paired, in points of exact match."""
    record = experiments.published("baselines")
    methods = comparisons.methods(record)
    found = []
    for split in comparisons.SETS:
        prompt = methods[_best_prompt(record, split)][split]
        mean, low, high = (100 * v for v in comparisons.paired(methods["rules"][split], prompt, split))
        found.append(f"{split} {mean:+.3g} points [{low:.3g}, {high:.3g}]")
    return "rules minus best prompt: " + "; ".join(found)


def n9() -> str:
    """Valid replies of the constrained baselines, of those written out."""
    cells = [c["metrics"] for c in experiments.published("baselines")["cells"] if "valid" in c["metrics"]]
    replies = [row["reply"] for m in cells for row in m["test_production"] if "reply" in row]
    valid = int(sum(metrics.valid_json(replies)))
    return f"{valid} of {len(replies)} constrained replies valid"


def n10() -> str:
    """Tokens of a prompt with eight fixed examples against the short prompt alone."""
    from transformers import AutoTokenizer

    from labsupport.models import base_model
    from labsupport.tasks import tickets
    from labsupport.training import prefixes
    from labsupport.baselines import prompting

    tokenizer = AutoTokenizer.from_pretrained(base_model.path(base_model.BUNDLED))
    train, rows = tickets.load("train")[:512], comparisons.one_each("test_production")[:50]
    counts = {}
    for name, method, examples in (
        ("none", "zero_shot", 0),
        ("fixed", "few_shot", 8),
        ("retrieved", "retrieved", 8),
    ):
        prompts = prompting.prompts(tokenizer, method, train, rows, "short", examples)
        shared = len(prefixes.shared(prompts))
        counts[name] = [sum(map(len, prompts)) / len(rows), sum(len(p) - shared for p in prompts) / len(rows)]
    base, own = counts["none"]
    return (
        f"8 examples: {counts['fixed'][0] / base:.2g} times the tokens, {counts['fixed'][1] / own:.2g} times "
        f"with a reused prefix; 8 retrieved: {counts['retrieved'][1] / own:.2g} times"
    )


def n11() -> str:
    """GPU hours of LoRA on 7B by formula, for the module page's run and for a hundred times the rows."""
    small = decision.gpu_hours("LoRA fine-tuning", 7, 2000 * 200 / 1e6)
    large = decision.gpu_hours("LoRA fine-tuning", 7, 200_000 * 200 / 1e6)
    return (
        f"computed for 7B at 20-40 TFLOP/s: 2,000 rows of 200 tokens {small[0]:.2g} to {small[1]:.2g} GPU "
        f"hours, 200,000 rows {large[0]:.2g} to {large[1]:.2g}"
    )
