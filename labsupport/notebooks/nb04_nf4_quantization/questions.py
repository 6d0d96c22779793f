"""The questions that close notebook 04."""

from __future__ import annotations

from labsupport.teaching.questions import Choice, ChoiceQuestion, FreeQuestion, NumberQuestion


def nested_gigabytes() -> float:
    """What double quantisation saves on 65 billion weights, in GB (1e9 bytes)."""
    from labsupport.models import nf4

    return (nf4.scale_bits(64, False) - nf4.scale_bits(64, True)) * 65e9 / 8 / 1e9


QUESTIONS = [
    ChoiceQuestion(
        key="outlier-in-a-block",
        text="A weight of 40 sigma sits in a block of 64 ordinary weights. What becomes of the other 63?",
        choices=[
            Choice(
                "Nothing: every weight is rounded by itself.",
                "The levels are fixed in units of the block's largest weight, so all 64 share one scale.",
            ),
            Choice(
                "Most of them become exactly 0.",
                "The scale is 40 sigma and the levels next to 0 are at -0.091 and 0.080 of it, more than "
                "3 sigma away: all that is nearer to 0 than half of that is rounded to 0.",
                right=True,
            ),
            Choice(
                "They are clipped to 40 sigma.",
                "Nothing is clipped: dividing by the largest keeps everything within -1 and 1.",
            ),
            Choice(
                "The whole matrix is quantised more coarsely.",
                "Only this block. That is what blocks are for: an outlier costs 63 neighbours, not millions.",
            ),
        ],
    ),
    NumberQuestion(
        key="saved-by-double-quantisation",
        text="How many GB (10^9 bytes) does double quantisation save on 65 billion weights in blocks of 64?",
        answer=nested_gigabytes,
        tolerance=0.02,
        unit="GB",
        why="32 bits a block become 8, and one float32 serves 256 blocks: 0.5 bits a weight become 0.127.",
    ),
    ChoiceQuestion(
        key="why-not-four-times-smaller",
        text="Llama-3.1-8B in NF4 is 2.8 times smaller than in bfloat16, Llama-2-7B 3.5 times. Why not 4?",
        choices=[
            Choice(
                "NF4 really needs 5 bits a weight.",
                "With double quantisation it needs 4.127: that alone would give a factor of 3.9.",
            ),
            Choice(
                "Attention layers stay in 16 bits.",
                "All seven matrices of a layer are quantised, those of attention too.",
            ),
            Choice(
                "Embeddings and output head stay in 16 bits, and Llama-3.1 has four times the vocabulary.",
                "Two tables of 128,256 x 4,096 numbers in 16 bits: 2.1 of its 5.7 GB.",
                right=True,
            ),
            Choice(
                "The adapters are counted in.",
                "These are the weights of the base model alone, before any adapter.",
            ),
        ],
    ),
    FreeQuestion(
        key="error-on-quantised-weights",
        text="A blog post measures the NF4 error on the weights of a model that came as a 4-bit GGUF file. "
        "What is wrong with that, and what would you measure instead?",
        model_answer="Those weights were rounded to 16 values a block already. To quantise them again shows "
        "how well two grids happen to meet, not what NF4 does to trained weights. Measure on the original "
        "bfloat16 weights, or, if there are none, on random weights whose distribution you state.",
        rubric=[
            "the weights are already quantised: few distinct values in each block",
            "so the figure belongs to the pair of formats, not to NF4",
            "use original 16-bit weights, or random weights with a stated distribution",
        ],
    ),
]
