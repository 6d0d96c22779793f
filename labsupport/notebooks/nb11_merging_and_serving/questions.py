"""The questions that close notebook 11."""

from __future__ import annotations

import math

from labsupport.teaching.questions import Choice, ChoiceQuestion, NumberQuestion

CUSTOMERS, RANK = 40, 16
WEIGHT = 164 / 8192  # a number of bfloat16


def _gigabytes() -> float:
    """What merged copies of Mistral-7B take beyond one base and its adapters, all in 16 bits, in GB."""
    from labsupport.configs import model_configs
    from labsupport.sizes import counting

    config = model_configs.find("mistral-7b-v0.1")
    base, adapter = counting.model_parameters(config), counting.lora_count(config, RANK)
    return 2 * (CUSTOMERS * base - (base + CUSTOMERS * adapter)) / 1e9


def _half_a_step() -> float:
    """Half of the distance between bfloat16's numbers at WEIGHT: 7 bits follow the leading one."""
    return 2.0 ** (math.floor(math.log2(WEIGHT)) - 7) / 2


QUESTIONS = [
    NumberQuestion(
        key="forty-customers",
        text="Forty customers, each with an adapter of rank 16 on all linear layers of Mistral-7B (7.24 "
        "billion parameters; 41.9 million in an adapter). How many GB (10⁹ bytes) more do forty "
        "merged models take than one base and forty adapters, everything in 16 bits?",
        answer=_gigabytes,
        tolerance=0.01,
        unit="GB",
        why="Forty models of 14.5 GB are 579 GB. One base and forty adapters of 84 MB are 17.8 GB.",
    ),
    NumberQuestion(
        key="lost-in-bfloat16",
        text="An entry of a base in bfloat16 is 0.0200195, one of bfloat16's numbers. How large must the "
        "entry of the update be at least, so that the merged entry, stored in bfloat16 again, is another "
        "one?",
        answer=_half_a_step,
        tolerance=0.05,
        unit="",
        why="0.0200195 lies between 2⁻⁶ and 2⁻⁵. bfloat16 has 7 bits behind the leading one, so its numbers "
        "there are 2⁻¹³ apart, and what is below half of that, 2⁻¹⁴ = 0.000061, is rounded away.",
    ),
    ChoiceQuestion(
        key="back-to-the-base",
        text="You load your QLoRA model in NF4, put the adapter on, call merge_and_unload() and save. The "
        "evaluation beforehand was good; the merged model answers as if it had never been trained. "
        "Nothing was reported but a warning. What happened?",
        choices=[
            Choice(
                "The adapter was not active when it was merged, so that nothing was added to the weights.",
                "merge_and_unload merges the adapter that is loaded; the evaluation before shows it worked.",
            ),
            Choice(
                "The sum was rounded to NF4 again, whose levels are so far apart that most of it fell back.",
                "Dequantised weights lie exactly on the levels: an update has to reach half-way to the next.",
                right=True,
            ),
            Choice(
                "The scales of the blocks were not saved with the model, so that it was loaded with others.",
                "They are part of the state dict; a model with wrong scales does not answer like the base.",
            ),
            Choice(
                "The merged weights are right and the tokenizer's template was lost while saving the model.",
                "Then replies would be odd in form. They are the base's, and the template was not touched.",
            ),
        ],
    ),
    ChoiceQuestion(
        key="fluent-and-wrong",
        text="A server with your base and your adapter replies fluently and never in your format. In this "
        "process, base and adapter reply as they should. The first tokens of the prompts agree. What "
        "do you look at first?",
        choices=[
            Choice(
                "The number format: bfloat16 on the card may lose what the adapter has added to each layer.",
                "Rounding flips a near tie now and then; it does not undo a format in every reply.",
            ),
            Choice(
                "The sampling: a server draws at random by default, so that no two replies can be compared.",
                "Worth setting to greedy, but a trained format survives sampling in most replies.",
            ),
            Choice(
                "The name in the request: the base's name gets the base, and only the adapter's the adapter.",
                "A common mistake: compare with the base's own replies, and ask for the adapter's name.",
                right=True,
            ),
            Choice(
                "The length: a limit of tokens that is too low ends a reply before the format can be seen.",
                "A reply that is cut short begins as it should. These are fluent from their first word.",
            ),
        ],
    ),
]
