"""The questions that close notebook 05; the first is checkpoint 2 of the module page (guide 004)."""

from __future__ import annotations

import math
from dataclasses import replace

from labsupport.configs import model_configs
from labsupport.core.text import number
from labsupport.cost import step_time
from labsupport.planning import closed_form, napkin
from labsupport.setups.setup import Setup
from labsupport.sizes import gpus
from labsupport.teaching.questions import Choice, ChoiceQuestion, FreeQuestion, NumberQuestion

MISTRAL = Setup(model_configs.find("mistral-7b-v0.3"), batch=1, length=4096, padded=False, trainer="sft")
MOVED = Setup(model_configs.find("qwen2.5-7b"), "qlora", batch=2, length=4096, padded=False, trainer="plain")
SHORT = Setup(model_configs.find("llama-2-7b"), batch=1, length=100, padded=False, trainer="sft")


def _weights_gb(method: str) -> float:
    return closed_form.weight_bytes(replace(MISTRAL, method=method)) / 1e9


def _megabytes_a_token(trainer: str) -> float:
    """What a token adds to the peak of LoRA with checkpointing, in MB."""
    run = replace(MISTRAL, trainer=trainer)
    return (napkin.on_paper(replace(run, batch=2)) - napkin.on_paper(run)) / run.length / 1e6


def _time_of(card: str = "a100-80", **options) -> str:
    """The time of a token in a changed SHORT, as a share of what it was, in the middle of the range."""

    def a_token(setup, card):
        step = step_time.step_time(setup, gpus.find(card))
        return math.sqrt(math.prod(step.seconds)) / step.tokens

    return f"{a_token(replace(SHORT, **options), card) / a_token(SHORT, 'a100-80'):.0%}"


QUESTIONS = [
    FreeQuestion(
        key="qlora-or-plain-lora",
        text="QLoRA or plain LoRA? Give the rule based on VRAM: what do you add up, and what decides?",
        model_answer="Add up, with checkpointing on: the weights in 16 bits; 12 bytes for each trained "
        "parameter (16 if gradients are accumulated); and for each token of a step 2 bytes x hidden size x "
        "blocks, and what the highest moment needs besides: in a plain loop the logits, 14 bytes x "
        "vocabulary, with TRL's trainer one block that is computed again. Leave some 15 % free for what is "
        "reserved and for CUDA. If that fits the card, plain LoRA is better: no time lost in restoring "
        "weights, no quantisation error, a clean merge. If not, take a trainer without full logits and go "
        "down to one row first. If it still does not fit, but does with weights at about half a byte a "
        f"parameter, take QLoRA. For Mistral-7B the weights are {number(_weights_gb('lora'))} or "
        f"{number(_weights_gb('qlora'))} GB; a token of LoRA takes {number(_megabytes_a_token('sft'))} MB "
        f"with TRL's trainer, {number(_megabytes_a_token('plain'))} in a plain loop.",
        rubric=[
            "16-bit weights plus what a step's tokens need at the highest moment plus room to spare, against "
            "the card's memory",
            "it fits: plain LoRA, which is faster, without quantisation error, and merges cleanly",
            "it does not: checkpointing, no full logits and fewer rows first, then QLoRA",
            "4 bits shrink the weights only, by a fixed amount, not the activations",
        ],
    ),
    NumberQuestion(
        key="from-a-loop-to-the-trainer",
        text="QLoRA (rank 16, all linear layers, checkpointing) of Qwen2.5-7B, 152,064 words, runs in a loop "
        "of your own with 2 packed rows of 4,096 tokens. You move it to TRL's SFTTrainer. By how many GB "
        "(10^9 bytes) does the peak fall? Your napkin, `on_paper`, can tell.",
        answer=lambda: (napkin.on_paper(MOVED) - napkin.on_paper(replace(MOVED, trainer="sft"))) / 1e9,
        tolerance=0.06,
        unit="GB",
        why="The tower of 14 bytes x 152,064 x 8,192 tokens, 17.4 GB, goes. But the peak does not fall by "
        "all of it: the first block's way back, hidden beside the tower before, is the highest moment now.",
    ),
    ChoiceQuestion(
        key="out-of-memory-at-batch-8",
        text="QLoRA of rank 16 on a 13B model with TRL's SFTTrainer, checkpointing on, runs out of memory "
        "when the backward pass begins: batch 8, accumulation 2, rows of 1,024. Which change frees most?",
        choices=[
            Choice(
                "8-bit Adam in place of AdamW",
                "The adapters' moments are a quarter of a GB in bfloat16; 8 bits halve that: one percent.",
            ),
            Choice(
                "Batch 4 with accumulation 4",
                "At the first block's way back, what is kept and what the block needs go with the tokens of "
                "one micro-batch: half the tokens, half of both, and the optimizer sees the same 16 rows.",
                right=True,
            ),
            Choice(
                "Batch 8 with accumulation 1",
                "Micro-batches follow each other, so the peak is that of one of them. Only the adapters' "
                "gradients, an eighth of a GB, are no longer there at the second one.",
            ),
            Choice(
                "Rank 8 in place of rank 16",
                "That halves what is trained, half a GB in all, and leaves each token's share as it is.",
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
        key="rows-of-100-tokens",
        text="LoRA of Llama-2-7B with TRL's trainer on an A100, one row of about 100 tokens a step. The card "
        "is idle most of the time, and the run would take ten hours. What shortens it most?",
        choices=[
            Choice(
                "A card that computes three times as fast",
                "Launching binds, and that is the host's work. By the course's model an H100 takes "
                f"{_time_of('h100')} of the time.",
            ),
            Choice(
                "Two rows a step, to make 200 tokens of it",
                "Twice the tokens share one reading of the weights and one round of launches: "
                f"{_time_of(length=200)} of the time by the course's model.",
                right=True,
            ),
            Choice(
                "No checkpointing, with a pass less to make",
                "That saves one pass in four, and its launches: "
                f"{_time_of(checkpointing=False)} of the time by the course's model.",
            ),
            Choice(
                "4-bit weights, with fewer bytes to be read",
                "They have to be unpacked for every product, with kernels of their own: "
                f"{_time_of(method='qlora')} of the time by the course's model.",
            ),
        ],
    ),
]
