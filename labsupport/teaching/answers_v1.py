"""Progress files of version 1, which kept answers by position.

There, "01.2" was the second question of notebook 01. A question put in front of it, or a notebook given
another number, would have handed its answer to another question. So answers are now kept under the name of
the notebook and the question's key, and this table says whose they were. It is history: no later question
belongs here, and none of its lines may change.
"""

from __future__ import annotations

TODAY = {
    "00.1": "start_here/prompt-already-good-enough",
    "00.2": "start_here/was-the-tuning-worth-it",
    "00.3": "start_here/why-families-are-drawn",
    "00.4": "start_here/retrieval-or-fine-tuning",
    "01.1": "first_fine_tune/which-tokens-are-trained",
    "01.2": "first_fine_tune/nll-of-blind-guessing",
    "01.3": "first_fine_tune/exact-match-without-generating",
    "01.4": "first_fine_tune/why-production-scores-lower",
    "02.1": "lora_math/gradients-in-the-first-step",
    "02.2": "lora_math/undo-a-doubled-alpha",
    "02.3": "lora_math/high-rank-of-an-update",
    "02.4": "lora_math/what-a-doubled-rank-changes",
    "03.1": "counting_parameters/share-of-a-square-matrix",
    "03.2": "counting_parameters/same-recipe-fewer-parameters",
    "03.3": "counting_parameters/size-of-the-adapter-file",
    "03.4": "counting_parameters/questions-about-a-count",
    "04.1": "nf4_quantization/outlier-in-a-block",
    "04.2": "nf4_quantization/saved-by-double-quantisation",
    "04.3": "nf4_quantization/why-not-four-times-smaller",
    "04.4": "nf4_quantization/error-on-quantised-weights",
    "05.1": "memory_and_cost/qlora-or-plain-lora",
    "05.2": "memory_and_cost/memory-of-logits-and-loss",
    "05.3": "memory_and_cost/out-of-memory-in-the-loss",
    "05.4": "memory_and_cost/bytes-of-full-fine-tuning",
}


def renamed(answers: dict[str, dict]) -> dict[str, dict]:
    """The answers under today's names; what the table does not know keeps its own."""
    return {TODAY.get(id, id): entry for id, entry in answers.items()}
