"""Section B of the claims, the sizes of adapter files, and every other count that the guides print.

The closed forms of labsupport/models/counting.py; tests/models/test_counting.py holds those against PEFT.
"""

from __future__ import annotations

from labsupport.models import counting
from labsupport.models.model_configs import find

LLAMA2, LLAMA3, MISTRAL, SMALL = "llama-2-7b", "llama-3.1-8b", "mistral-7b-v0.3", "smollm2-135m"
GUIDE_002 = 27_262_976  # printed for Mistral, rank 16, seven modules (section 7.3)


def printed(model: str, rank: int, targets="all-linear") -> str:
    """As print_trainable_parameters() says it: trained, all with the adapter, percent."""
    trained = counting.lora_count(find(model), rank, targets)
    total = counting.model_parameters(find(model)) + trained
    return f"{trained:,} of {total:,} ({100 * trained / total:.4f} %)"


def lora(model: str, rank: int, targets="all-linear") -> str:
    return f"{counting.lora_count(find(model), rank, targets):,}"


def megabytes(model: str, rank: int, targets="all-linear", dtype: str = "float32") -> str:
    """Size of the adapter's file in 10^6 bytes, header included."""
    return f"{sum(counting.adapter_bytes(find(model), rank, targets, dtype=dtype)) / 1e6:.3g} MB"


def b1() -> str:
    return printed(LLAMA2, 16, "q+v")


def b2() -> str:
    return printed(LLAMA2, 16)


def b3() -> str:
    return printed(MISTRAL, 16)


def b3_search() -> str:
    found = counting.configurations(find(MISTRAL), GUIDE_002, (8, 16, 32, 64))
    by_rank = {rank: sum(r == rank for r, _ in found) for rank in (8, 16, 32, 64)}
    return f"{len(found)} configurations; by rank: " + ", ".join(f"{r}: {n}" for r, n in by_rank.items())


def b3_base() -> str:
    return f"7,268,633,600 - 27,262,976 = {7_268_633_600 - GUIDE_002:,}; Mistral-7B-v0.3 has " + (
        f"{counting.model_parameters(find(MISTRAL)):,}"
    )


def b4() -> str:
    naive = counting.naive_4bit(find(MISTRAL)) + counting.lora_count(find(MISTRAL), 16)
    return f"PEFT counts {printed(MISTRAL, 16)}; the naive sum is {naive:,}"


def b5() -> str:
    return lora(LLAMA3, 16, "qkvo")


def b6() -> str:
    return printed(LLAMA3, 16, "qkvo")


def b7() -> str:
    models = (("Qwen2.5-7B", "qwen2.5-7b"), ("Llama-3.1-8B", LLAMA3), ("Llama-2-7B", LLAMA2))
    return "; ".join(f"{title} {printed(name, 16, 'q+v')}" for title, name in models)


def b8() -> str:
    sets = [f"{name} {lora(LLAMA3, 16, name)}" for name in ("q+v", "qkvo", "all-linear")]
    return f"Llama-3.1-8B at rank 16: {'; '.join(sets)}"


def b9() -> str:
    return f"rank 8, q and v: {printed(LLAMA2, 8, 'q+v')}; rank 16, all seven: {lora(LLAMA2, 16)}"


def b10() -> str:
    return printed(LLAMA3, 16)


def percent(model: str, rank: int, targets) -> str:
    trained = counting.lora_count(find(model), rank, targets)
    return f"{100 * trained / (trained + counting.model_parameters(find(model))):.3g} %"


def b11() -> str:
    rows = [f"{percent(m, 16, 'q+v')} to {percent(m, 16, 'all-linear')}" for m in (LLAMA2, SMALL)]
    return f"rank 16, from q and v to all seven: Llama-2-7B {rows[0]}; SmolLM2-135M {rows[1]}"


def b12() -> str:
    plain, extra = counting.lora_count(find(LLAMA3), 16), sum(counting.dora_by_module(find(LLAMA3)).values())
    return f"Llama-3.1-8B, rank 16: {extra:,} magnitudes on {plain:,} (+{100 * extra / plain:.3g} %)"


def b13() -> str:
    return f"{counting.prompt_tuning(find(LLAMA2), 20):,}"


def b14() -> str:
    counts = [counting.prefix_tuning(find(name), 20) for name in (LLAMA2, LLAMA3)]
    return f"Llama-2-7B {counts[0]:,}; Llama-3.1-8B {counts[1]:,}"


def b15() -> str:
    plain, full = (counting.bottleneck_adapters(find(LLAMA2), 64, b) for b in (False, True))
    return f"{plain:,}; {full:,} with biases"


def b16() -> str:
    counts = [counting.bias_count(find(name), "all") for name in (LLAMA3, MISTRAL, "qwen2.5-7b")]
    return f"Llama-3.1-8B {counts[0]:,}; Mistral-7B {counts[1]:,}; Qwen2.5-7B {counts[2]:,}"


def b17() -> str:
    return f"{2 * counting.model_parameters(find('llama-3-70b')) / 1e9:.3g} GB"


def b18() -> str:
    return f"{4 * counting.model_parameters(find(LLAMA2)) / 1e9:.3g} GB"


def b19() -> str:
    shapes = counting.shapes(find(LLAMA2))
    one = counting.lora_parameters(*shapes["q_proj"], 16)
    two = one + counting.lora_parameters(*shapes["v_proj"], 16)
    return f"{16 * 4096:,} each for A and B, {one:,} a matrix, {two:,} a layer"


def b20() -> str:
    shapes = counting.shapes(find(LLAMA2))
    each = {name: counting.lora_parameters(*shapes[name], 16) for name in counting.ALL_LINEAR}
    return f"{sum(each.values()):,} a layer: 4 x {each['q_proj']:,} + 3 x {each['gate_proj']:,}"


def b21() -> str:
    totals = [f"{counting.model_parameters(find(name)):,}" for name in (LLAMA2, MISTRAL, LLAMA3)]
    return f"Llama-2-7B {totals[0]}; Mistral-7B {totals[1]}; Llama-3.1-8B {totals[2]}"


def b22() -> str:
    shapes = counting.shapes(find(LLAMA3))
    outputs, inputs = (32 * sum(shapes[n][k] for n in counting.ALL_LINEAR) for k in (1, 0))
    return f"one an output: {outputs:,} (PEFT); one an input: {inputs:,}"


def b23() -> str:
    gigabytes = [2 * counting.model_parameters(find(name)) / 1e9 for name in (LLAMA2, MISTRAL, LLAMA3)]
    return "Llama-2-7B {:.3g}, Mistral-7B {:.3g}, Llama-3.1-8B {:.3g} GB".format(*gigabytes)


def b24() -> str:
    words, hidden = counting.shapes(find(SMALL))["embed_tokens"]
    added = counting.lora_count(find(SMALL), 16, ["embed_tokens"])
    return f"SmolLM2-135M, rank 16 on embed_tokens: 16 x ({words} + {hidden}) = {added:,}"


def f1() -> str:
    return f"{megabytes(LLAMA3, 16, 'q+v')}; at rank 64 on all seven {megabytes(LLAMA3, 64)}"


def f2() -> str:
    half = megabytes(MISTRAL, 16, dtype="bfloat16")
    return f"{megabytes(MISTRAL, 16)} in float32, {half} in bfloat16"


def f3() -> str:
    half = megabytes(LLAMA3, 16, "qkvo", "bfloat16")
    return f"{megabytes(LLAMA3, 16, 'qkvo')} in float32, {half} in bfloat16"


def f4() -> str:
    return f"{10 * 2 * counting.model_parameters(find(LLAMA2)) / 1e9:.3g} GB"


def f6() -> str:
    return f"{megabytes(LLAMA2, 8, 'q+v', 'bfloat16')} (rank 8, q and v, bfloat16) to {megabytes(LLAMA2, 16)}"


def f7() -> str:
    ten = [10 * sum(counting.adapter_bytes(find(LLAMA2), 16, t)) / 1e6 for t in ("q+v", "all-linear")]
    return f"ten adapters of rank 16: {ten[0]:.0f} MB (q and v) to {ten[1]:,.0f} MB (all seven)"
