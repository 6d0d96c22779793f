"""The questions that close notebook 08."""

from __future__ import annotations

from labsupport.teaching.questions import Choice, ChoiceQuestion, NumberQuestion

# Qwen2.5-32B's shapes, by its published config.json.
BLOCKS, HIDDEN, KEYS, INNER, RANK = 64, 5120, 8 * 128, 27_648, 16


def _states() -> float:
    """MB of both moments in float32 for LoRA of that rank on all linear layers."""
    from labsupport.sizes import counting

    pairs = [(HIDDEN, HIDDEN)] * 2 + [(HIDDEN, KEYS)] * 2 + [(HIDDEN, INNER)] * 3
    return 8 * BLOCKS * sum(counting.lora_parameters(*pair, RANK) for pair in pairs) / 1e6


QUESTIONS = [
    NumberQuestion(
        key="most-that-can-page",
        text="QLoRA of a model of 64 blocks: 5,120 wide, keys and values 1,024 wide, MLP 27,648 wide, rank "
        "16 "
        "on all seven linear layers, adapters in float32. The run is out of memory on long rows. How many MB "
        "(10⁶ bytes) could a paged 32-bit Adam move off the card at most?",
        answer=_states,
        tolerance=0.02,
        unit="MB",
        why="Two moments of 4 bytes for each adapter number. A block has 16 · (2 · (5,120 + 5,120) + 2 · "
        "(5,120 "
        "+ 1,024) + 3 · (5,120 + 27,648)) = 2,097,152 of them, 64 blocks 134 million, times 8 bytes. What "
        "long "
        "rows need is activations, and those do not page.",
    ),
    ChoiceQuestion(
        key="better-where-it-was-trained",
        text="Your adapter was trained and validated on an NF4 base: 1.30 nats an answer. The server loads "
        "the "
        "same model in bfloat16, which is the more exact one, and puts the adapter on it: 1.52 nats, on the "
        "same "
        "rows with the same template. What explains it best?",
        choices=[
            Choice(
                "The server's products in bfloat16 round more coarsely than the 4-bit layers' did in "
                "training.",
                "Those unpack to bfloat16 and multiply in bfloat16 as well: the products round alike.",
            ),
            Choice(
                "The adapter was fitted to the rounded weights, and it also corrects what their rounding "
                "did.",
                "On the exact weights part of that correction is a mistake. Serve it on the base that it "
                "knows.",
                right=True,
            ),
            Choice(
                "The adapter learned the validation rows by heart, and only on the server does this show up.",
                "They are the same rows on the server: what is known by heart there stays known.",
            ),
            Choice(
                "The adapter's alpha has to be scaled anew for a base whose weights take four times the "
                "bits.",
                "The weights have the same size in either format; alpha / r knows nothing of bits.",
            ),
        ],
    ),
    ChoiceQuestion(
        key="half-as-fast",
        text="A colleague fine-tunes the same 8B model on the same card with the same rows. Quantised, "
        "adapters "
        "on all linear layers, and the loss looks like yours, but a step takes more than twice as long. The "
        "config reads BitsAndBytesConfig(load_in_4bit=True). What do you tell them first?",
        choices=[
            Choice(
                "Double quantisation is off by default, so that twice as many scales are read for each "
                "weight.",
                "It is off, and costs 0.37 bits a weight of memory; reading unquantised scales is no slower.",
            ),
            Choice(
                "The quantisation is done anew in every step, unless the model is saved in four bits "
                "beforehand.",
                "Weights are packed once, when they are loaded. Unpacking is what happens in every step.",
            ),
            Choice(
                "The format is FP4 by default, whose levels are unpacked by arithmetic and not from a table.",
                "It is FP4, which costs quality; both formats are unpacked by a table of 16 values.",
            ),
            Choice(
                "The compute dtype is float32 by default, so every product misses the card's 16-bit units.",
                "Set bnb_4bit_compute_dtype=torch.bfloat16, and the quant type and double quantisation with "
                "it.",
                right=True,
            ),
        ],
    ),
    ChoiceQuestion(
        key="checkpoint-without-moments",
        text="A preempted machine comes back. The newest checkpoint, of step 700, has the adapter, the "
        "trainer's "
        "state, the scheduler and the random generators, but no optimizer.pt. The one of step 600 has all "
        "files. What do you do?",
        choices=[
            Choice(
                "Resume from 600: at 700 the trainer would go on without a word, with Adam's memory lost.",
                "A hundred steps are the price of a run that is the run you planned.",
                right=True,
            ),
            Choice(
                "Resume from 700: the trainer rebuilds the moments from the gradients that the log has kept.",
                "The log keeps the gradient's norm, one number a step. Moments cannot be had from it.",
            ),
            Choice(
                "Resume from 700: the trainer sees that a file is missing, and goes back to 600 by itself.",
                "It looks for the newest folder, not for a complete one; a missing optimizer.pt is not an "
                "error.",
            ),
            Choice(
                "Begin again: a run that is resumed from any checkpoint is another run than one in a piece.",
                "From a complete one it is the same run, to the last bit, as you have seen above.",
            ),
        ],
    ),
]
