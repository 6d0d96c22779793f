"""Section E of the claims and what else the guides say of memory, time and optimizers.

Closed forms throughout: tests/planning/ holds them against the traced step. GB are 1e9 bytes.

A memory figure is judged with the trainer that its guide had. Guides 001, 002 and 004 pass `max_seq_length`
to SFTConfig, which TRL dropped in 0.20, and 003 uses transformers' Trainer: all of these made full logits, as
a plain loop does. TRL's head in tiles came with 1.7. So "plain" is the default here; where it makes a
difference the row says what today's SFTTrainer takes, too. Plans of full logits are held to published runs
(data/published_runs), those of today's trainer to torch.profiler on a processor only.
"""

from __future__ import annotations

import math

from labsupport.allocations.streams import GIB
from labsupport.configs.model_configs import find
from labsupport.cost import cost_model
from labsupport.planning import closed_form
from labsupport.setups.setup import Setup
from labsupport.sizes import counting, gpus
from labsupport.teaching.claims import shows

LLAMA2, LLAMA3, MISTRAL, LARGE = "llama-2-7b", "llama-3.1-8b", "mistral-7b-v0.3", "llama-3-70b"
RECIPES = {6: "8-bit Adam", 8: "all bfloat16", 12: "float32 Adam", 16: "and a float32 master copy"}
GB = 1e9


TODAY = "with TRL's tiles"  # what a row says before a figure of today's trainer


def packed_run(model: str, method: str = "lora", **options) -> Setup:
    """A packed bfloat16 run with full logits; rank 16 on all linear layers, checkpointing, unless said
    otherwise."""
    return Setup(config=find(model), method=method, padded=False, **{"trainer": "plain"} | options)


def predicted_gb(model: str, method: str = "lora", **options) -> float:
    """Peak allocated memory in GB, by the closed form."""
    return closed_form.peak_bytes(packed_run(model, method, **options)) / GB


def full_gb(model: str, a_parameter: int) -> float:
    """GB of weights, gradients and optimizer states in full fine-tuning at so many bytes a parameter."""
    return a_parameter * counting.model_parameters(find(model)) / GB


def tokens_at(figure: float, model: str, method: str = "lora", **options) -> int | None:
    """Tokens a step at which the predicted peak is `figure` GB; None if what stands is more.

    Where the loss is the peak, memory is a straight line in the tokens: two points give it.
    """
    sizes = [predicted_gb(model, method, batch=1, length=length, **options) for length in (65_536, 131_072)]
    a_token = (sizes[1] - sizes[0]) / 65_536
    tokens = (figure - (sizes[0] - 65_536 * a_token)) / a_token
    return math.floor(tokens) if tokens >= 1 else None


def when_reached(figure: float, model: str, method: str = "lora", **options) -> str:
    """The recipe that gives a guide's figure, in words."""
    tokens = tokens_at(figure, model, method, **options)
    if tokens is None:
        return "at no length (what stands is more)"
    return f"at {three_digits(tokens)} tokens a step"


def three_digits(count: int) -> str:
    return f"{float(f'{count:.3g}'):,.0f}"


def by_both(figure: float, model: str, method: str = "lora") -> str:
    """The tokens a step that give a guide's figure with full logits, and with TRL's tiles."""
    today = tokens_at(figure, model, method, trainer="sft")
    told = "at none" if today is None else three_digits(today)
    return f"{when_reached(figure, model, method)} ({TODAY} {told})"


@shows("E1")
def full_fine_tuning_goes_with_recipe_and_tokens() -> str:
    states = f"12 bytes a parameter {full_gb(LLAMA2, 12):.0f} GB, 16 {full_gb(LLAMA2, 16):.0f} GB"
    run = packed_run(LLAMA2, "full", checkpointing=False)
    layers, words = run.config["num_hidden_layers"], run.config["vocab_size"]
    a_token = layers * closed_form.activation_bytes(run) + words * closed_form.LOGITS_BYTES[2]
    low, high = (gb * GB / a_token for gb in (8, 16))
    return f"{states}; activations of 8 to 16 GB: {low:,.0f} to {high:,.0f} tokens without checkpointing"


@shows("E2")
def guide_003_counts_8_bytes_a_parameter() -> str:
    printed = {7: 56, 13: 104, 34: 272, 70: 560}
    ratios = {gb / billions for billions, gb in printed.items()}
    assert len(ratios) == 1
    sizes = ", ".join(f"{size} bytes {full_gb(LLAMA2, size):.0f}" for size in RECIPES)
    return f"{ratios.pop():g} bytes a parameter, no activations; Llama-2-7B in GB: {sizes}"


@shows("E3")
def guide_001_mixes_recipes() -> str:
    figures = ((MISTRAL, 60), (LLAMA3, 64), (LARGE, 400))
    parts = [f"{name} {gb / full_gb(name, 1):.1f}" for name, gb in figures]
    return f"bytes a parameter: {', '.join(parts)}; 70B at 6 bytes {full_gb(LARGE, 6):.0f} GB"


@shows("E4")
def adam_states_are_twice_the_weights() -> str:
    weights, moments = full_gb(LLAMA2, 4), full_gb(LLAMA2, 8)
    return f"Llama-2-7B in float32: weights {weights:.0f} GB, two moments {moments:.0f} GB"


@shows("E5")
def cards_for_full_fine_tuning_of_7b() -> str:
    card = gpus.find("a100-80").memory_gib * GIB / GB
    parts = [f"{math.ceil(full_gb(LLAMA2, size) / card)} at {size} bytes" for size in RECIPES]
    return (
        f"cards of 80 GB ({card:.1f} GB of memory) for weights, gradients and states of Llama-2-7B, before "
        f"activations: {', '.join(parts)} a parameter"
    )


@shows("E6")
def lora_in_16_gb_by_model() -> str:
    weights = closed_form.weight_bytes(packed_run(LLAMA3)) / GB
    return (
        f"predicted with full logits: Llama-2-7B 16 GB {by_both(16, LLAMA2)}; Llama-3.1-8B 16 GB "
        f"{when_reached(16, LLAMA3)}: bfloat16 weights alone {weights:.1f} GB"
    )


@shows("E7")
def lora_figures_belong_to_tokens_a_step() -> str:
    parts = []
    for figure in (16, 24, 26):
        off = when_reached(figure, LLAMA2, checkpointing=False)
        parts.append(f"{figure} GB {by_both(figure, LLAMA2)}, {off} without checkpointing")
    return f"predicted for Llama-2-7B with full logits: {'; '.join(parts)}"


@shows("E8")
def lora_figures_of_guide_001_belong_to_tokens_a_step() -> str:
    mistral, llama = by_both(28, MISTRAL), by_both(30, LLAMA3)
    return f"predicted with full logits: Mistral-7B 28 GB {mistral}, Llama-3.1-8B 30 GB {llama}"


@shows("E11")
def qlora_figures_belong_to_tokens_a_step() -> str:
    return (
        f"predicted with full logits: Llama-2-7B 6 GB {by_both(6, LLAMA2, 'qlora')}; Llama-3.1-8B 8 GB "
        f"{by_both(8, LLAMA3, 'qlora')}, 6 GB {by_both(6, LLAMA3, 'qlora')}"
    )


@shows("E14")
def gradients_and_states_of_lora_by_targets() -> str:
    parts = []
    for targets in ("q+v", "all-linear"):
        count = counting.lora_count(find(LLAMA2), 16, targets)
        sizes = [f"{size * count / 1e6:.0f}" for size in (2, 4, 8)]
        parts.append(f"{targets}: gradients {sizes[0]} MB (float32 {sizes[1]}), states {sizes[2]} MB")
    return "; ".join(parts)


@shows("E15")
def optimizer_states_of_lora_are_megabytes() -> str:
    rank_16, rank_64 = (counting.lora_count(find(LLAMA2), rank) for rank in (16, 64))
    sizes = [f"{name} {2 * size * rank_16 / 1e6:.0f} MB" for name, size in (("float32", 4), ("bfloat16", 2))]
    return f"{', '.join(sizes)}; even rank 64 in float32 {8 * rank_64 / GB:.2f} GB"


@shows("E16")
def lora_over_qlora_falls_with_tokens() -> str:
    models, parts, alone = (LLAMA3, MISTRAL, LARGE), [], []
    for name in models:
        plain, four = (closed_form.weight_bytes(packed_run(name, method)) for method in ("lora", "qlora"))
        alone.append(f"{name} {plain / four:.1f}")
    for name, length in ((LLAMA3, 512), (LLAMA3, 2048), (LLAMA3, 8192), (MISTRAL, 512), (LARGE, 512)):
        ratios = [lora_over_qlora(name, length, trainer) for trainer in ("plain", "sft")]
        parts.append(f"{name} {ratios[0]:.1f} ({ratios[1]:.1f}) at {length:,} tokens")
    own = [28 / 8, 28 / 10, 30 / 10, 30 / 12]  # LoRA by QLoRA in guide 001's table
    return (
        f"weights alone: {', '.join(alone)}; its own table {min(own):.1f} to {max(own):.1f}; a whole step, "
        f"predicted with full logits ({TODAY}): {', '.join(parts)}"
    )


def lora_over_qlora(model: str, length: int, trainer: str) -> float:
    """The peak of LoRA over that of QLoRA, of one row."""
    peaks = [predicted_gb(model, name, batch=1, length=length, trainer=trainer) for name in ("lora", "qlora")]
    return peaks[0] / peaks[1]


@shows("E17")
def accumulating_adds_the_gradients_once() -> str:
    parts = []
    for trainer, words in (("plain", "with full logits"), ("sft", TODAY)):
        run = packed_run(LLAMA3, "qlora", batch=4, length=2048, trainer=trainer)
        gradients = closed_form.trainable_bytes(run) * closed_form.trainable_parameters(run) / GB
        peaks = [predicted_gb(LLAMA3, "qlora", batch=rows, length=2048, trainer=trainer) for rows in (4, 2)]
        parts.append(
            f"{words} {gradients:.2f} GB of a predicted peak of {peaks[0]:.1f} GB at 4 x 2048; batch 2 makes "
            f"it {peaks[1]:.1f} GB"
        )
    return f"accumulating adds the gradients once, whatever the steps: {'; '.join(parts)}"


@shows("E25")
def peaks_of_14_to_15_gb_belong_to_full_logits_and_shorter_rows() -> str:
    full, tiles = (
        predicted_gb(LLAMA3, "qlora", batch=4, length=2048, trainer=trainer) for trainer in ("plain", "sft")
    )
    low, high = (three_digits(tokens_at(gb, LLAMA3, "qlora")) for gb in (14, 15))
    return (
        f"predicted at 4 x 2048: with full logits, as its TRL made them, {full:.1f} GB; 14 to 15 GB at "
        f"{low} to {high} tokens a step, half of that; {TODAY} {tiles:.1f} GB"
    )


@shows("E18")
def full_over_lora_is_below_8() -> str:
    parts, mixed = [], []
    for batch, length in ((1, 512), (4, 2048)):
        run = {"batch": batch, "length": length}
        full, lora = (predicted_gb(LLAMA3, method, **run) for method in ("full", "lora"))
        today = [predicted_gb(LLAMA3, method, trainer="sft", **run) for method in ("full", "lora")]
        parts.append(f"{full / lora:.1f} ({today[0] / today[1]:.1f}) at {batch} x {length}")
        mixed.append(f"{full_gb(LLAMA3, 16) / lora:.1f}")
    published = f"38.9 to 22.3 GB, {38.9 / 22.3:.1f}"  # huggingface/peft, method_comparison
    return (
        f"predicted with full logits ({TODAY}), all bfloat16: {', '.join(parts)}; 16 bytes a parameter and "
        f"no activations: {', '.join(mixed)}; published for a 3B, batch 4: {published}"
    )


@shows("E19")
def full_fine_tuning_of_70b_by_recipe() -> str:
    return "Llama-3-70B in GB: " + ", ".join(f"{size} bytes {full_gb(LARGE, size):,.0f}" for size in RECIPES)


@shows("E23")
def rank_32_costs_next_to_nothing() -> str:
    parts = []
    for method in ("lora", "qlora"):
        low, high = (
            predicted_gb(LLAMA3, method, rank=rank, targets=counting.SETS["qkvo"], batch=1, length=2048)
            for rank in (16, 32)
        )
        parts.append(f"{method} {low:.1f} GB {100 * (high / low - 1):+.1f} %")
    return (
        f"rank 16 to 32 on q, k, v, o of Llama-3.1-8B, 1 x 2048, predicted with full logits: "
        f"{', '.join(parts)}"
    )


@shows("E24")
def qlora_of_7b_and_13b_fits_16_gb() -> str:
    module_page = {"targets": counting.SETS["qkvo"], "batch": 4, "length": 1024}
    parts = []
    for model, name in ((LLAMA3, "Llama-3.1-8B"), ("llama-2-13b", "Llama-2-13B")):
        full, today = (
            predicted_gb(model, "qlora", trainer=trainer, **module_page) for trainer in ("plain", "sft")
        )
        parts.append(f"{name} {full:.1f} GB ({today:.1f})")
    return (
        f"allocated at 4 x 1024, q, k, v, o, predicted with full logits ({TODAY}): {', '.join(parts)}; with "
        "full logits take a smaller batch on a card of 16 GB, since more is reserved"
    )


@shows("D12")
def states_that_paging_could_move_are_small() -> str:
    count = counting.lora_count(find(LLAMA3), 16)
    full, today = (
        predicted_gb(LLAMA3, "qlora", batch=4, length=2048, trainer=trainer) for trainer in ("plain", "sft")
    )
    return (
        f"states of Llama-3.1-8B, rank 16: {8 * count / 1e6:.0f} MB (8-bit {2 * count / 1e6:.0f}) of a "
        f"predicted QLoRA peak of {full:.1f} GB at 4 x 2048 with full logits; {TODAY} "
        f"{4 * count / 1e6:.0f} MB of {today:.1f} GB"
    )


@shows("L16")
def kbit_preparation_costs_memory() -> str:
    plain, prepared = (
        closed_form.weight_bytes(packed_run(LLAMA3, "qlora", kbit_preparation=ready)) / GB
        for ready in (False, True)
    )
    return f"NF4 weights of Llama-3.1-8B: {plain:.2f} GB; prepared for k-bit training {prepared:.2f} GB"


@shows("M7")
def minutes_of_the_module_pages_run() -> str:
    run = packed_run(LLAMA3, "qlora", targets=counting.SETS["qkvo"], length=200, trainer="sft")
    found = cost_model.estimate(run, rows=2000, epochs=2, card=gpus.find("l4"), rate=0.0)
    least, most = (60 * hours for hours in found.hours)
    return (
        f"computed for QLoRA, {run.batch} rows of 200 tokens a micro-batch: {least:.0f} to {most:.0f} minutes"
    )


@shows("N6")
def full_fine_tuning_is_3_to_8_times_the_weights() -> str:
    parts = [f"{size} bytes {size / 2:g} times" for size in RECIPES]
    return f"of {full_gb(LARGE, 2):.0f} GB of weights: {', '.join(parts)}"
