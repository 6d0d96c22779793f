"""The questions that close notebook 05; the first is checkpoint 2 of the module page (guide 004)."""

from __future__ import annotations

from labsupport.core.text import number
from labsupport.memory import closed_form
from labsupport.memory.setup import Setup
from labsupport.sizes import counting, model_configs
from labsupport.teaching.questions import Choice, ChoiceQuestion, FreeQuestion, NumberQuestion

LLAMA3 = model_configs.find("llama-3.1-8b")


def _loss_gib() -> float:
    """Logits and loss of one row of 4,096 tokens, in GiB."""
    return 4096 * LLAMA3["vocab_size"] * closed_form.LOGITS_BYTES[2] / 2**30


def _full_gb() -> float:
    """Llama-2-7B in bfloat16 with float32 moments and a float32 master copy, in GB."""
    return (2 + 2 + 8 + 4) * counting.model_parameters(model_configs.find("llama-2-7b")) / 1e9


def _weights_gb(method: str) -> float:
    return closed_form.weight_bytes(Setup(LLAMA3, method)) / 1e9


def _megabytes_a_token() -> float:
    """What a token adds to the peak of LoRA with checkpointing on Llama-3.1-8B, in MB."""
    run = Setup(LLAMA3, padded=False)
    _, parts = closed_form.peak_parts(run)
    return (parts["activations"] + parts["logits"]) / (run.batch * run.length) / 1e6


QUESTIONS = [
    FreeQuestion(
        key="qlora-or-plain-lora",
        text="QLoRA or plain LoRA? Give the rule based on VRAM: what do you add up, and what decides?",
        model_answer="Add up, with checkpointing on: the weights in 16 bits, 12 bytes for each trained "
        "parameter (16 if gradients are accumulated), and for each token of a step 2 bytes x hidden size x "
        "blocks and 14 bytes x vocabulary; leave 20 to 30 % of that and half a GiB free. If that fits the "
        "card, plain LoRA is better: no time lost in restoring weights, no quantisation error, a clean "
        "merge. If not, go down to one row first. If it still does not fit, but does with weights at about "
        "half a byte a parameter, take QLoRA. For "
        f"Llama-3.1-8B the weights are {number(_weights_gb('lora'))} or {number(_weights_gb('qlora'))} GB, "
        f"and a token takes {number(_megabytes_a_token())} MB either way.",
        rubric=[
            "16-bit weights plus what a step's tokens need (activations, logits) plus room to spare, "
            "against the card's memory",
            "it fits: plain LoRA, which is faster, without quantisation error, and merges cleanly",
            "it does not: checkpointing and fewer rows first, then QLoRA",
            "4 bits shrink the weights only, by a fixed amount, not the activations",
        ],
    ),
    NumberQuestion(
        key="memory-of-logits-and-loss",
        text="LoRA on Llama-3.1-8B (vocabulary 128,256) in bfloat16 with one row of 4,096 tokens. How many "
        "GiB do logits and loss take at their worst moment?",
        answer=_loss_gib,
        tolerance=0.03,
        unit="GiB",
        why="14 bytes a token and word: logits in bfloat16, log-softmax and two gradients in float32. "
        "Checkpointing does not touch them, because the head lies behind the blocks.",
    ),
    ChoiceQuestion(
        key="out-of-memory-in-the-loss",
        text="LoRA of rank 16 with checkpointing runs out of memory in the loss, batch 4, rows of 2,048. "
        "What helps most?",
        choices=[
            Choice(
                "8-bit Adam instead of AdamW.",
                "The adapters' states are a few hundred MB: a percent or two of the peak.",
            ),
            Choice(
                "Half the gradient accumulation steps.",
                "Micro-batches follow each other: the peak is that of one of them.",
            ),
            Choice(
                "Batch 2, and twice the accumulation steps.",
                "At the loss, logits and activations go with the tokens of one micro-batch: half as many "
                "tokens, half of both, and the same result of a step.",
                right=True,
            ),
            Choice(
                "Rank 8 instead of 16.",
                "That halves the trainable state, which is small, and leaves logits as they are.",
            ),
        ],
    ),
    NumberQuestion(
        key="bytes-of-full-fine-tuning",
        text="Full fine-tuning of Llama-2-7B (6,738,415,616 parameters): weights and gradients in bfloat16, "
        "Adam in float32, and a float32 master copy. How many GB (10^9 bytes) before activations?",
        answer=_full_gb,
        tolerance=0.02,
        unit="GB",
        why="2 + 2 + 4 + 4 + 4 = 16 bytes a parameter. All in bfloat16 it would be 8, which is where guide "
        "003's 56 GB come from.",
    ),
]
