"""The questions that close notebook 03; the first is checkpoint 1 of the module page (guide 004)."""

from __future__ import annotations

from labsupport.core.text import number
from labsupport.sizes import counting, model_configs
from labsupport.teaching.questions import Choice, ChoiceQuestion, FreeQuestion, NumberQuestion

PRINTED = 27_262_976  # guide 002, section 7.3
SAME_COUNT = len(counting.configurations(model_configs.find("mistral-7b-v0.3"), PRINTED, (8, 16, 32, 64)))
ALL_SEVEN = counting.lora_count(model_configs.find("mistral-7b-v0.3"), 16)


def _share_of_a_square() -> float:
    """LoRA's share of a 4096 x 4096 matrix at rank 16, in percent."""
    return 100 * counting.lora_parameters(4096, 4096, 16) / (4096 * 4096)


def _file_megabytes(targets: str = "all-linear") -> float:
    """The adapter of rank 16 on Mistral, saved in float32; guide 002 trains all seven modules."""
    return sum(counting.adapter_bytes(model_configs.find("mistral-7b-v0.3"), 16, targets)) / 1e6


QUESTIONS = [
    NumberQuestion(
        key="share-of-a-square-matrix",
        text="Walk through LoRA on a 4096 x 4096 attention projection at rank 16: which matrices are "
        "trained, how many parameters are they, and what share of full fine-tuning is that? Enter the share.",
        answer=_share_of_a_square,
        tolerance=0.01,
        unit="%",
        why="A is 16 x 4096 and takes the input down to 16 numbers, B is 4096 x 16 and brings them back up: "
        f"{16 * 4096:,} each, {counting.lora_parameters(4096, 4096, 16):,} together. W is frozen, with "
        f"{4096 * 4096:,}. The share of a square matrix of width n is 2r/n: it falls as models get wider.",
    ),
    ChoiceQuestion(
        key="same-recipe-fewer-parameters",
        text="You move a recipe (rank 16 on q, k, v, o) from Llama-2-7B to Llama-3.1-8B, which has the same "
        "hidden size and as many layers. PEFT now prints fewer trained parameters. Why?",
        choices=[
            Choice(
                "PEFT leaves k_proj and v_proj out under grouped-query attention.",
                "All four are adapted; two of them are narrower.",
            ),
            Choice(
                "The larger vocabulary takes up part of the count.",
                "Embedding and head are no targets; the vocabulary changes only the total.",
            ),
            Choice(
                "Groups of query heads share keys and values.",
                "k_proj and v_proj have 8 heads instead of 32, so their B is a quarter as tall.",
                right=True,
            ),
            Choice(
                "Rank 16 is cut down to what the narrower matrices allow.",
                "The rank stays 16; it may go up to 1,024 on those matrices.",
            ),
        ],
    ),
    NumberQuestion(
        key="size-of-the-adapter-file",
        text="Guide 002 trains Mistral-7B-v0.3 at rank 16 on all seven modules and speaks of an adapter of "
        "about 50 MB. How large is adapter_model.safetensors as PEFT saves it, in float32? (10^6 bytes)",
        answer=_file_megabytes,
        tolerance=0.03,
        unit="MB",
        why=f"{ALL_SEVEN:,} parameters of 4 bytes, and a header well under 1 %; in bfloat16 half of it. "
        f"With rank 16 on the four attention matrices it would be {number(_file_megabytes('qkvo'))} MB.",
    ),
    FreeQuestion(
        key="questions-about-a-count",
        text=f"A colleague reports: rank 16, trainable params {PRINTED:,} on Mistral-7B-v0.3. What do you "
        "ask before you compare your run with theirs?",
        model_answer=f"Which modules were targets: rank 16 on all seven would print {ALL_SEVEN:,}. Their "
        f"number belongs to {SAME_COUNT} configurations with the usual ranks, so a count does not identify a "
        "recipe. I ask for adapter_config.json, which holds rank, alpha and targets.",
        rubric=[
            "the target modules, because the rank alone does not give a count",
            "the count does not fit rank 16 on all seven modules",
            "several configurations share a count, so look at adapter_config.json or the tensors' shapes",
        ],
    ),
]
