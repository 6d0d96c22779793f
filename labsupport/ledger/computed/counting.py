"""Section B of the claims, the sizes of adapter files, and every other count that the guides print.

The closed forms of labsupport/sizes/counting.py; tests/sizes/test_counting.py holds those against PEFT.
"""

from __future__ import annotations

from labsupport.configs.model_configs import find
from labsupport.sizes import counting
from labsupport.teaching.claims import shows

LLAMA2, LLAMA3, MISTRAL, SMALL = "llama-2-7b", "llama-3.1-8b", "mistral-7b-v0.3", "smollm2-135m"
GUIDE_002 = 27_262_976  # printed for Mistral, rank 16, seven modules (section 7.3)


def size(model: str) -> int:
    """Parameters of a model without an adapter."""
    return counting.model_parameters(find(model))


def adapter(model: str, targets="all-linear", rank: int = 16) -> int:
    return counting.lora_count(find(model), rank, targets)


def printed(model: str, targets="all-linear", rank: int = 16) -> str:
    """As print_trainable_parameters() says it: trained, all with the adapter, percent."""
    trained = adapter(model, targets, rank)
    total = size(model) + trained
    return f"{trained:,} of {total:,} ({100 * trained / total:.4f} %)"


def megabytes(model: str, targets="all-linear", rank: int = 16, dtype: str = "float32") -> str:
    """Size of the adapter's file in 10^6 bytes, header included."""
    return f"{sum(counting.adapter_bytes(find(model), rank, targets, dtype=dtype)) / 1e6:.3g} MB"


def in_both(model: str, targets="all-linear") -> str:
    half = megabytes(model, targets, dtype="bfloat16")
    return f"{megabytes(model, targets)} in float32, {half} in bfloat16"


# ---------------------------------------------------------------- B: counts


@shows("B1")
def llama_2_query_and_value() -> str:
    return printed(LLAMA2, "q+v")


@shows("B2")
def llama_2_all_linear() -> str:
    return printed(LLAMA2)


@shows("B3")
def mistral_all_linear() -> str:
    return printed(MISTRAL)


@shows("B3a")
def what_could_print_guide_002s_count() -> str:
    found = counting.configurations(find(MISTRAL), GUIDE_002, (8, 16, 32, 64))
    by_rank = {rank: sum(r == rank for r, _ in found) for rank in (8, 16, 32, 64)}
    return f"{len(found)} configurations; by rank: " + ", ".join(f"{r}: {n}" for r, n in by_rank.items())


@shows("B3b")
def guide_002s_base_is_not_mistral() -> str:
    base = 7_268_633_600 - GUIDE_002
    return f"7,268,633,600 - 27,262,976 = {base:,}; Mistral-7B-v0.3 has {size(MISTRAL):,}"


@shows("B4")
def mistral_in_4_bit() -> str:
    naive = counting.naive_4bit(find(MISTRAL)) + adapter(MISTRAL)
    return f"PEFT counts {printed(MISTRAL)}; the naive sum is {naive:,}"


@shows("B5")
def llama_3_attention() -> str:
    return f"{adapter(LLAMA3, 'qkvo'):,}"


@shows("B6")
def llama_3_attention_as_printed() -> str:
    return printed(LLAMA3, "qkvo")


@shows("B7")
def query_and_value_of_7b_models() -> str:
    return "; ".join(
        f"{title} {printed(title.lower(), 'q+v')}" for title in ("Qwen2.5-7B", "Llama-3.1-8B", "Llama-2-7B")
    )


@shows("B8")
def rank_16_on_7b_models() -> str:
    on_two = [printed(model, "q+v") for model in ("qwen2.5-7b", LLAMA2)]
    others = [f"{name} {adapter(LLAMA3, name):,}" for name in ("qkvo", "all-linear")]
    return f"q and v: {' to '.join(on_two)}; other targets of Llama-3.1-8B: {', '.join(others)}"


@shows("B9")
def four_million_is_rank_8() -> str:
    return f"rank 8, q and v: {printed(LLAMA2, 'q+v', 8)}; rank 16, all seven: {adapter(LLAMA2):,}"


@shows("B10")
def llama_3_all_linear() -> str:
    return printed(LLAMA3)


def shares(model: str, ranks=(8, 16, 32, 64)) -> list[float]:
    """What LoRA trains of all parameters, in percent: these ranks on q and v, on q, k, v, o, on all seven."""
    counts = [adapter(model, targets, rank) for targets in ("q+v", "qkvo", "all-linear") for rank in ranks]
    return [100 * count / (size(model) + count) for count in counts]


def how_many(values: list[float], low: float, high: float) -> str:
    return f"{sum(low <= value <= high for value in values)} of {len(values)} settings"


def shares_at_7b(ranks=(8, 16, 32, 64)) -> list[float]:
    return [share for model in (LLAMA2, MISTRAL, LLAMA3, "qwen2.5-7b") for share in shares(model, ranks)]


@shows("B11")
def share_at_7b_and_at_135m() -> str:
    at_7b, small = shares_at_7b(), shares(SMALL)
    return (
        f"four models of 7 to 8B, ranks 8 to 64: {how_many(at_7b, 0.1, 1)} in 0.1 to 1 %, all in "
        f"{min(at_7b):.2g} to {max(at_7b):.2g} %; SmolLM2-135M: {how_many(small, 0.1, 1)}, "
        f"{min(small):.2g} to {max(small):.3g} %"
    )


@shows("B11a")
def narrower_share_of_guide_002() -> str:
    own = 100 * adapter(MISTRAL) / (size(MISTRAL) + adapter(MISTRAL))
    inside = how_many(shares_at_7b(), 0.1, 0.5)
    return f"{inside} in 0.1 to 0.5 %; its own recipe, rank 16 on all seven of Mistral-7B: {own:.3g} %"


@shows("B12")
def dora_adds_magnitudes() -> str:
    plain, extra = adapter(LLAMA3), sum(counting.dora_by_module(find(LLAMA3)).values())
    return f"Llama-3.1-8B, rank 16: {extra:,} magnitudes on {plain:,} (+{100 * extra / plain:.3g} %)"


@shows("B13")
def prompt_tuning_of_20_tokens() -> str:
    return f"{counting.prompt_tuning(find(LLAMA2), 20):,}"


@shows("B14")
def prefix_tuning_is_smaller_under_gqa() -> str:
    counts = [counting.prefix_tuning(find(name), 20) for name in (LLAMA2, LLAMA3)]
    return f"Llama-2-7B {counts[0]:,}; Llama-3.1-8B {counts[1]:,}"


@shows("B15")
def bottleneck_adapters_of_64() -> str:
    plain, full = (counting.bottleneck_adapters(find(LLAMA2), 64, biases) for biases in (False, True))
    return f"{plain:,}; {full:,} with biases"


@shows("B16")
def most_models_have_no_biases() -> str:
    titles = {"Llama-3.1-8B": LLAMA3, "Mistral-7B": MISTRAL, "Qwen2.5-7B": "qwen2.5-7b"}
    return "; ".join(f"{title} {counting.bias_count(find(m), 'all'):,}" for title, m in titles.items())


@shows("B17")
def llama_3_70b_in_bfloat16() -> str:
    return f"{2 * size('llama-3-70b') / 1e9:.3g} GB"


@shows("B18")
def llama_2_in_float32() -> str:
    return f"{4 * size(LLAMA2) / 1e9:.3g} GB"


@shows("B19")
def square_matrices_of_a_layer() -> str:
    shapes = counting.shapes(find(LLAMA2))
    one, other = (counting.lora_parameters(*shapes[name], 16) for name in ("q_proj", "v_proj"))
    return f"{16 * 4096:,} each for A and B, {one:,} a matrix, {one + other:,} a layer"


@shows("B20")
def all_matrices_of_a_layer() -> str:
    shapes = counting.shapes(find(LLAMA2))
    each = {name: counting.lora_parameters(*shapes[name], 16) for name in counting.ALL_LINEAR}
    return f"{sum(each.values()):,} a layer: 4 x {each['q_proj']:,} + 3 x {each['gate_proj']:,}"


@shows("B21")
def parameters_of_7b_models() -> str:
    return f"Llama-2-7B {size(LLAMA2):,}; Mistral-7B {size(MISTRAL):,}; Llama-3.1-8B {size(LLAMA3):,}"


@shows("B22")
def doras_m_is_one_an_output() -> str:
    shapes = counting.shapes(find(LLAMA3))
    inputs, outputs = (32 * sum(shapes[name][k] for name in counting.ALL_LINEAR) for k in (0, 1))
    return (
        f"the paper's own notation; weights are stored out x in, and PEFT keeps one magnitude an output: "
        f"{outputs:,} on Llama-3.1-8B (one an input would be {inputs:,})"
    )


@shows("B23")
def files_of_7b_models() -> str:
    llama2, mistral, llama3 = (f"{2 * size(name) / 1e9:.3g}" for name in (LLAMA2, MISTRAL, LLAMA3))
    return f"Llama-2-7B {llama2}, Mistral-7B {mistral}, Llama-3.1-8B {llama3} GB"


@shows("B24")
def lora_on_embeddings() -> str:
    words, hidden = counting.shapes(find(SMALL))["embed_tokens"]
    added = adapter(SMALL, ["embed_tokens"])
    return f"SmolLM2-135M, rank 16 on embed_tokens: 16 x ({words} + {hidden}) = {added:,}"


# ---------------------------------------------------------------- F: files


@shows("F1")
def adapter_files_of_llama_3() -> str:
    return f"{megabytes(LLAMA3, 'q+v')}; rank 16 on all seven {megabytes(LLAMA3)}"


@shows("F1a")
def adapter_of_guide_001() -> str:
    return f"its recipe on Llama-3.1-8B: {in_both(LLAMA3)}; rank 64: {megabytes(LLAMA3, rank=64)} in float32"


@shows("F2")
def adapter_file_of_mistral() -> str:
    return in_both(MISTRAL)


@shows("F3")
def adapter_file_of_llama_3_attention() -> str:
    return in_both(LLAMA3, "qkvo")


@shows("F4")
def ten_full_copies() -> str:
    return f"{10 * 2 * size(LLAMA2) / 1e9:.3g} GB"


@shows("F6")
def smallest_and_usual_adapter_file() -> str:
    small = megabytes(LLAMA2, "q+v", 8, "bfloat16")
    return f"{small} (rank 8, q and v, bfloat16) to {megabytes(LLAMA2)}"


@shows("F7")
def ten_adapters() -> str:
    ten = [10 * sum(counting.adapter_bytes(find(LLAMA2), 16, t)) / 1e6 for t in ("q+v", "all-linear")]
    return f"ten adapters of rank 16: {ten[0]:.0f} MB (q and v) to {ten[1]:,.0f} MB (all seven)"


# ---------------------------------------------------------------- J: served apart


@shows("J11")
def ten_adapters_loaded_at_once() -> str:
    base, ten = (2 * count / 1e9 for count in (size(MISTRAL), 10 * adapter(MISTRAL)))
    return f"{MISTRAL} in 16 bits {base:.1f} GB; ten adapters of rank 16, all loaded, {ten:.2f} GB more"
