"""The questions that close notebook 04. Their models and numbers stand nowhere in it."""

from __future__ import annotations

from labsupport.teaching.questions import Choice, ChoiceQuestion, NumberQuestion


def nested_megabytes() -> float:
    """What double quantisation saves on a matrix of 4,096 x 14,336 in blocks of 128, in MB (1e6 bytes)."""
    from labsupport.models import nf4

    return (nf4.scale_bits(128, False) - nf4.scale_bits(128, True)) * 4096 * 14336 / 8 / 1e6


QUESTIONS = [
    ChoiceQuestion(
        key="outlier-in-a-block",
        text="In a block of 64, one weight has 8 sigma and the others are ordinary normal numbers. What "
        "happens to the other 63 in NF4?",
        choices=[
            Choice(
                "Nothing: every weight is rounded by itself, whatever its neighbours are.",
                "All 64 are divided by the same absmax, 8 sigma instead of about 2.6.",
            ),
            Choice(
                "Most of them become exactly 0, because the levels beside 0 are too far off.",
                "At 40 sigma, yes. At 8 the levels beside 0 stand at -0.73 and 0.64 sigma, and what is "
                "nearer to 0 than half of that becomes 0: 17 of the 63, on average.",
            ),
            Choice(
                "They are clipped at 2.6 sigma, where a block of normal weights ends.",
                "Nothing is clipped: dividing by the largest keeps everything within -1 and 1.",
            ),
            Choice(
                "Their squared error becomes about five times what it is without the outlier.",
                "Measured: 4.8 times. The grid is stretched threefold; the levels near 0 are dense, so "
                "the error grows less than ninefold. About 17 of the 63 become 0.",
                right=True,
            ),
        ],
    ),
    NumberQuestion(
        key="saved-by-double-quantisation",
        text="A matrix of 4,096 x 14,336 is stored in blocks of 128. How many MB (10^6 bytes) does double "
        "quantisation of its scales save?",
        answer=nested_megabytes,
        tolerance=0.01,
        unit="MB",
        why="Its 458,752 blocks need 4 bytes each without it, and 1 byte and 4 / 256 of one with it: "
        "2.98 bytes a block are saved. Larger blocks have fewer scales, so they save less.",
    ),
    ChoiceQuestion(
        key="why-not-four-times-smaller",
        text="A model has 1.5 billion weights in its layers and, in a tied table, 0.5 billion for its "
        "large vocabulary. It is loaded in NF4 with double quantisation. How many times smaller is "
        "it than in bf16?",
        choices=[
            Choice(
                "About 3.9 times: 16 bits become 4.13 with the scales.",
                "That holds for the layers alone. The table stays in 16 bits.",
            ),
            Choice(
                "About 2.3 times: of its 1.8 GB more than half is the table.",
                "1.5e9 x 4.127 / 8 is 0.77 GB, and the table 1.0 GB: 4.0 / 1.77 is 2.25.",
                right=True,
            ),
            Choice(
                "About 3.1 times: layers in 4 bits, the table in 8 bits.",
                "Nothing is put in 8 bits but the scales; the table keeps its 16.",
            ),
            Choice(
                "About 2.9 times: the table is stored once as it is tied.",
                "It is stored once, in both: 1.0 GB of 4.0 and 1.0 GB of 1.77.",
            ),
        ],
    ),
    ChoiceQuestion(
        key="kept-by-a-layer-with-an-adapter",
        text="LoRA of rank 16 sits on a 4-bit layer of 4,096 x 4,096, and 2,048 tokens in bf16 pass "
        "through. What of these tokens must be kept for the backward pass?",
        choices=[
            Choice(
                "The input, 16.8 MB, because A is trained, and 66 kB behind A for B.",
                "2,048 x 4,096 x 2 bytes. The gradient of A contains the input, that of B the 16 numbers "
                "a token behind A. The frozen layer itself needs neither.",
                right=True,
            ),
            Choice(
                "Nothing: the layer is frozen, and a frozen layer needs no input back.",
                "True of the frozen layer; but the adapter beside it reads the same input, and it is "
                "trained.",
            ),
            Choice(
                "The input in 4 bits, 4.2 MB, in the format of the layer's own weights.",
                "NF4 stores weights. What is kept of the tokens has the dtype one computes in.",
            ),
            Choice(
                "The 16-bit copy of the weights that was made for them, 33.6 MB.",
                "That copy is thrown away after the forward pass; the backward pass restores it anew.",
            ),
        ],
    ),
    ChoiceQuestion(
        key="error-on-quantised-weights",
        text="A post takes a model's Q8_0 file (8-bit codes, one scale for 32 weights), restores it, "
        "quantises it to NF4 in blocks of 64 and reports the relative error against the restored "
        "weights. What is right?",
        choices=[
            Choice(
                "It is worthless: weights that were once quantised tell nothing of NF4.",
                "With 4-bit min-max codes that was so, because 16 values met 16. With 255 steps a block the "
                "weights between two NF4 levels are still well spread.",
            ),
            Choice(
                "It is far too low: both have even steps, so the second costs nothing.",
                "NF4's steps are not even, and 8-bit steps are much finer than its own.",
            ),
            Choice(
                "It comes out close: steps of 8 bits are far finer than NF4's.",
                "An 8-bit step is 1/127 of the largest weight, NF4's are 8 to 30 hundredths. It should "
                "still say where its weights came from.",
                right=True,
            ),
            Choice(
                "It is far too high: the errors of both formats are added up.",
                "The error is taken against the restored weights, so the first rounding is not in it; "
                "and it is tiny.",
            ),
        ],
    ),
]
