"""The questions that close notebook 10."""

from __future__ import annotations

import math

from labsupport.teaching.questions import Choice, ChoiceQuestion, NumberQuestion

# Phi-4-mini's shapes, by its published config.json, with its fused layers taken apart.
BLOCKS, HIDDEN, KEYS, INNER = 32, 3072, 8 * 128, 8192
RANK, ALPHA = 64, 16


def _magnitudes() -> float:
    """One number for each output of the seven linear layers, in millions."""
    return BLOCKS * (HIDDEN + 2 * KEYS + HIDDEN + 2 * INNER + HIDDEN) / 1e6


def _same_alpha() -> float:
    """LoRA's alpha with rsLoRA's scale."""
    return ALPHA / math.sqrt(RANK) * RANK


QUESTIONS = [
    NumberQuestion(
        key="how-many-magnitudes",
        text="DoRA on all seven linear layers of a model of 32 blocks: 3,072 wide, keys and values 1,024 "
        "wide, MLP 8,192 wide. How many numbers, in millions, does it train beyond a LoRA of the same"
        " rank?",
        answer=_magnitudes,
        tolerance=0.005,
        unit="million",
        why="One length for each output of a layer: q and o 3,072 each, k and v 1,024 each, gate and up "
        "8,192 each, down 3,072, that is 27,648 a block, 884,736 in all. The rank does not enter.",
    ),
    NumberQuestion(
        key="the-same-run",
        text="A colleague trains at rank 64, alpha 16, one learning rate. LoRA stores 900 bits, with "
        "use_rslora=True it stores 2,300, and the report says that rsLoRA is the better method. Which "
        "alpha would have given plain LoRA the very same run, bit for bit?",
        answer=_same_alpha,
        tolerance=1e-9,
        unit="",
        why="rsLoRA scales by 16 / √64 = 2. LoRA scales by alpha / 64, which is 2 at alpha 128. The report"
        " has measured a scale of 2 against one of 0.25.",
    ),
    ChoiceQuestion(
        key="a-new-method",
        text="A preprint's method reaches 71.2 % of 1,319 problems, LoRA 69.8 %. One run each, both at a "
        "learning rate of 2e-4, which the authors found good for theirs. What do these numbers "
        "support?",
        choices=[
            Choice(
                "The new method is better by 1.4 points on this test, and by how much elsewhere has to be "
                "seen.",
                "The difference has a standard error of 1.8 points from the test's size alone, before any "
                "seed.",
            ),
            Choice(
                "Nothing yet: the gap is within chance, and LoRA had a rate that was chosen for the other.",
                "Two reasons, and each would be enough. Ask for a grid of rates for both, and for several "
                "seeds.",
                right=True,
            ),
            Choice(
                "That the methods are equal: a gap within the noise of the test is proof that there is none.",
                "It is no proof of either. A gap of three points could be there and look like this.",
            ),
            Choice(
                "That LoRA is undertrained: at equal rates the method with fewer parameters needs more "
                "steps.",
                "Nothing here tells of parameters or steps; and the right rate differs between methods.",
            ),
        ],
    ),
    ChoiceQuestion(
        key="why-so-slow",
        text="You switch use_dora=True on in a config that works: rank 16, all linear layers, lora_dropout"
        " 0.1, 2,048 tokens a step. A step now has nearly twice the operations. What would you change"
        " first?",
        choices=[
            Choice(
                "The rank, to 4: PEFT multiplies B and A out at every step, and that work goes with the "
                "rank.",
                "It does, but it does not grow with the tokens: at 2,048 a step it is below one per cent.",
            ),
            Choice(
                "The targets, to q and v: each magnitude vector needs a gradient of the size of its weight.",
                "A magnitude's gradient has one number an output. Fewer targets cost less, of LoRA as well.",
            ),
            Choice(
                "The dropout, to 0: with it the frozen weight is multiplied with its input a second time.",
                "The adapter sees an input of which some is dropped, so the frozen product cannot be shared.",
                right=True,
            ),
            Choice(
                "The tokens, to 4,096 a step: what DoRA adds does not grow with them, so its share is "
                "halved.",
                "True without dropout. With it the second product grows with the tokens, too.",
            ),
        ],
    ),
]
