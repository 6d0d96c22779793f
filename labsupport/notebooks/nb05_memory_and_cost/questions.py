"""The questions that close notebook 05; the first is checkpoint 2 of the module page (guide 004)."""

from __future__ import annotations

from labsupport.core.text import number
from labsupport.memory.setup import Setup
from labsupport.planning import closed_form
from labsupport.sizes import model_configs
from labsupport.teaching.questions import Choice, ChoiceQuestion, FreeQuestion, NumberQuestion

MISTRAL = model_configs.find("mistral-7b-v0.3")
ROWS, LENGTH = 3, 1536  # of the question about what checkpointing leaves


def _weights_gb(method: str) -> float:
    return closed_form.weight_bytes(Setup(MISTRAL, method)) / 1e9


def _megabytes_a_token() -> float:
    """What a token adds to the peak of LoRA with checkpointing on Mistral-7B in a plain loop, in MB."""
    run = Setup(MISTRAL, padded=False)
    _, parts = closed_form.peak_parts(run)
    return (parts["activations"] + parts["logits"]) / (run.batch * run.length) / 1e6


def _inputs_gb() -> float:
    """The blocks' inputs that checkpointing keeps, Llama-2-13B in bfloat16, in GB."""
    run = Setup(model_configs.find("llama-2-13b"), batch=ROWS, length=LENGTH, padded=False)
    _, parts = closed_form.peak_parts(run)
    return parts["activations"] / 1e9


QUESTIONS = [
    FreeQuestion(
        key="qlora-or-plain-lora",
        text="QLoRA or plain LoRA? Give the rule based on VRAM: what do you add up, and what decides?",
        model_answer="Add up, with checkpointing on: the weights in 16 bits, 12 bytes for each trained "
        "parameter (16 if gradients are accumulated), for each token of a step 2 bytes x hidden size x "
        "blocks and, in a plain loop, 14 bytes x vocabulary; leave some 20 % and half a GiB free. If that "
        "fits the card, plain LoRA is better: no time lost in restoring weights, no quantisation error, a "
        "clean merge. If not, go down to one row first. If it still does not fit, but does with weights at "
        "about half a byte a parameter, take QLoRA. For Mistral-7B the weights are "
        f"{number(_weights_gb('lora'))} or {number(_weights_gb('qlora'))} GB, and a token takes "
        f"{number(_megabytes_a_token())} MB either way.",
        rubric=[
            "16-bit weights plus what a step's tokens need (activations, logits) plus room to spare, "
            "against the card's memory",
            "it fits: plain LoRA, which is faster, without quantisation error, and merges cleanly",
            "it does not: checkpointing and fewer rows first, then QLoRA",
            "4 bits shrink the weights only, by a fixed amount, not the activations",
        ],
    ),
    NumberQuestion(
        key="inputs-that-checkpointing-keeps",
        text=f"LoRA with checkpointing on Llama-2-13B (40 blocks, hidden size 5,120) in bfloat16, a step of "
        f"{ROWS} rows of {LENGTH:,} tokens. How many GB (10^9 bytes) do the kept inputs of the blocks take?",
        answer=_inputs_gb,
        tolerance=0.03,
        unit="GB",
        why="One input a block and token: 2 bytes x 5,120 x 40 blocks x 4,608 tokens. Neither the rank nor "
        "the width of the MLP comes into it: all else is computed again.",
    ),
    ChoiceQuestion(
        key="out-of-memory-at-batch-8",
        text="QLoRA of rank 16 on a 13B model in a plain loop, checkpointing on, runs out of memory at the "
        "loss: batch 8, accumulation 2, rows of 1,024. Which change frees most?",
        choices=[
            Choice(
                "8-bit Adam in place of AdamW",
                "The adapters' moments are half a GB, and 8 bits save three quarters of that: a few percent.",
            ),
            Choice(
                "Batch 4 with accumulation 4",
                "At the loss, activations and logits go with the tokens of one micro-batch: half as many "
                "tokens, half of both, and the optimizer's step sees the same 16 rows.",
                right=True,
            ),
            Choice(
                "Batch 8 with accumulation 1",
                "Micro-batches follow each other, so the peak is that of one of them. Only the adapters' "
                "gradients, a quarter of a GB, are no longer there at the second one.",
            ),
            Choice(
                "Rank 8 in place of rank 16",
                "That halves what is trained, a GB in all, and leaves each token's share as it is.",
            ),
        ],
    ),
    ChoiceQuestion(
        key="one-module-without-an-adapter",
        text="LoRA in float32 on all seven linear layers of a block in bfloat16. You take the adapter off "
        "down_proj, which stays frozen. What does autograd no longer keep for each token?",
        choices=[
            Choice(
                "down_proj's input in float32, and its Ax",
                "A's gradient needed the layer's input, B's gradient Ax. The frozen weight asks for neither.",
                right=True,
            ),
            Choice(
                "Nothing less, since the gradient passes",
                "To pass the gradient on, a linear layer needs its weight only, which is in memory anyway.",
            ),
            Choice(
                "The gate, its activation and up's output",
                "These belong to the product of gate and up, whose backward pass needs them as before.",
            ),
            Choice(
                "down_proj's weight, which is not trained",
                "The weight stays: it is used in every forward and backward pass, and once for all tokens.",
            ),
        ],
    ),
    ChoiceQuestion(
        key="recipe-of-a-memory-figure",
        text="Somebody needs 51 GB for weights, gradients and optimizer states in full fine-tuning of a "
        "model with 3.2 billion parameters. Which recipe is it?",
        choices=[
            Choice("All of it kept in bfloat16", "That is 2 + 2 + 2 + 2 = 8 bytes a parameter: 26 GB."),
            Choice("bfloat16 with Adam in 8 bits", "That is 2 + 2 + 1 + 1 = 6 bytes a parameter: 19 GB."),
            Choice(
                "float32 Adam and master copy",
                "51 / 3.2 = 16 bytes a parameter: 2 + 2 + 4 + 4 and a float32 copy of the weight, 4.",
                right=True,
            ),
            Choice("bfloat16, Adam in float32", "That is 2 + 2 + 4 + 4 = 12 bytes a parameter: 38 GB."),
        ],
    ),
]
