"""What prompting does on the tickets and what a fine-tune costs: a part of section N."""

from __future__ import annotations

from labsupport.baselines import comparisons, decision
from labsupport.evaluation import experiments, metrics
from labsupport.teaching.claims import shows


def best_prompts() -> dict[str, tuple[str, dict]]:
    """For each set of tickets the best recorded method that prompts the base model, and its scores."""
    record = experiments.published("baselines")
    methods = comparisons.methods(record)
    prompted = [name for name in methods if name.split(" ")[0] in comparisons.PROMPTED]
    names = {split: comparisons.best(record, prompted, split) for split in comparisons.SETS}
    return {split: (name, methods[name][split]) for split, name in names.items()}


@shows("N7")
def exact_match_of_the_best_prompt() -> str:
    parts = []
    for split, (name, results) in best_prompts().items():
        mean, low, high = (100 * value for value in comparisons.interval(results, split))
        parts.append(f"{split} {mean:.3g} % [{low:.3g}, {high:.3g}] ({name})")
    return f"exact match: {'; '.join(parts)}"


@shows("N8")
def rules_beat_the_best_prompt() -> str:
    """Paired, in points of exact match."""
    rules = comparisons.methods(experiments.published("baselines"))["rules"]
    parts = []
    for split, (_, results) in best_prompts().items():
        mean, low, high = (100 * v for v in comparisons.paired(rules[split], results, split))
        parts.append(f"{split} {mean:+.3g} points [{low:.3g}, {high:.3g}]")
    return f"rules minus best prompt: {'; '.join(parts)}"


@shows("N9")
def constrained_replies_are_valid() -> str:
    """Of those that the record has written out; beside them the free replies of notebook 01's fine-tune."""
    cells = [c["metrics"] for c in experiments.published("baselines")["cells"] if "valid" in c["metrics"]]
    replies = [row["reply"] for m in cells for row in m["test_production"] if "reply" in row]
    tuned = experiments.published("first_fine_tune")["cells"][0]["metrics"]
    free = [row["reply"] for split in comparisons.SETS for row in tuned[split]]
    return (
        f"{int(sum(metrics.valid_json(replies)))} of {len(replies)} constrained replies valid; "
        f"{int(sum(metrics.valid_json(free)))} of {len(free)} free replies of the fine-tuned model"
    )


@shows("N10")
def examples_cost_tokens() -> str:
    """Tokens of a prompt with eight examples against the short prompt alone, whole and beyond the prefix
    that all rows share; and by formula what the fixed ones cost a 7B model without that."""
    from transformers import AutoTokenizer

    from labsupport.baselines import prompting
    from labsupport.models import base_model
    from labsupport.tasks import tickets
    from labsupport.training import prefixes

    tokenizer = AutoTokenizer.from_pretrained(base_model.path(base_model.BUNDLED))
    train, rows = tickets.load("train"), comparisons.one_each("test_production")[:50]

    def tokens(method: str, examples: int) -> tuple[int, int]:
        prompts = prompting.prompts(tokenizer, method, train, rows, "short", examples)
        whole = sum(map(len, prompts))
        return whole, whole - len(rows) * len(prefixes.shared(prompts))

    (base, own), fixed, retrieved = tokens("zero_shot", 0), tokens("few_shot", 8), tokens("retrieved", 8)
    hours = decision.prompt_hours(7, (fixed[0] - base) // len(rows), 100_000)
    return (
        f"8 examples: {fixed[0] / base:.2g} times the tokens, {fixed[1] / own:.2g} times "
        f"with a reused prefix; 8 retrieved: {retrieved[1] / own:.2g} times; computed for 7B, 8 fixed "
        f"without reuse: {hours[0]:.2g} to {hours[1]:.2g} GPU hours on an L4 for 100,000 requests"
    )


@shows("N11")
def gpu_hours_of_lora_on_7b() -> str:
    """By formula, for the module page's run and for a hundred times the rows."""
    small, large = (
        decision.gpu_hours("LoRA fine-tuning", 7, n * 200 / 1e6, length=200) for n in (2000, 200_000)
    )
    return (
        f"computed for 7B on an L4: 2,000 rows of 200 tokens {small[0]:.2g} to {small[1]:.2g} GPU hours, "
        f"200,000 rows {large[0]:.2g} to {large[1]:.2g}"
    )
