"""The questions that close notebook 03; the first is checkpoint 1 of the module page (guide 004)."""

from __future__ import annotations

from labsupport.configs import model_configs
from labsupport.core.text import number
from labsupport.sizes import counting
from labsupport.teaching.questions import Choice, ChoiceQuestion, FreeQuestion, NumberQuestion

LLAMA3 = model_configs.find("llama-3.1-8b")
EXPECTED = counting.lora_count(LLAMA3, 16)
HALF = EXPECTED // 2
SAME_COUNT = counting.configurations(LLAMA3, HALF, (8, 16, 32, 64))


def _share_of_a_square() -> float:
    """LoRA's share of a 4096 x 4096 matrix at rank 16, in percent."""
    return 100 * counting.lora_parameters(4096, 4096, 16) / (4096 * 4096)


def _file_megabytes(dtype: str = "float32") -> float:
    """The adapter of rank 8 on q and v of Llama-2-13B."""
    return sum(counting.adapter_bytes(model_configs.find("llama-2-13b"), 8, "q+v", dtype=dtype)) / 1e6


def _share(model: str) -> str:
    config = model_configs.find(model)
    trained = counting.lora_count(config, 16)
    return number(100 * trained / (trained + counting.model_parameters(config)), 2)


def _keys(d_in: int, d_out: int) -> str:
    return f"{counting.lora_parameters(d_in, d_out, 32):,}"


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
        text=f"On a model with hidden size 5,120 and 40 heads of 128, rank 32 on `k_proj` trains "
        f"{_keys(5120, 5120)} parameters a layer. Its successor has the same sizes, but 8 key-value heads. "
        "What does the same recipe train there, a layer?",
        choices=[
            Choice(
                f"{_keys(1024, 1024)}: A and B are both a fifth of what they were.",
                "Only the outputs are fewer. k_proj still reads the whole hidden state, so A keeps its size.",
            ),
            Choice(
                f"{32 * 5120:,}: A stays, and B is gone as keys are shared.",
                "Query heads share keys, but 8 heads of them are still computed: B has 1,024 rows.",
            ),
            Choice(
                f"{_keys(5120, 5120)}: neither rank nor hidden size has changed.",
                "That counts k_proj as square. B has a row for each output, and there are 8 x 128 of them.",
            ),
            Choice(
                f"{_keys(5120, 1024)}: A stays, and B is a fifth as tall as it was.",
                "32 x (5,120 + 1,024). The edge along the inputs is as long as before, the other is shorter.",
                right=True,
            ),
        ],
    ),
    NumberQuestion(
        key="size-of-the-adapter-file",
        text="Llama-2-13B has 40 layers, a hidden size of 5,120 and no grouped-query attention. How large is "
        "adapter_model.safetensors of rank 8 on q and v as PEFT saves it, in float32? (10^6 bytes)",
        answer=_file_megabytes,
        tolerance=0.03,
        unit="MB",
        why="40 layers x 2 modules x 8 x (5,120 + 5,120) parameters of 4 bytes, and a header of some kB; in "
        f"bfloat16 {number(_file_megabytes('bfloat16'))} MB.",
    ),
    ChoiceQuestion(
        key="share-of-a-larger-model",
        text=f"Rank 16 on all linear layers trains {_share('llama-3.1-8b')} % of Llama-3.1-8B (hidden size "
        "4,096, 32 layers). Roughly what share does it train of Llama-3-70B (hidden size 8,192, 80 layers)?",
        choices=[
            Choice(
                "About 0.06 %: the model is nine times as large, the rank the same.",
                "So it would be if A and B kept their size. But their edges grow, and there are more layers.",
            ),
            Choice(
                "About 0.3 %: edges double where areas become four times as large.",
                f"{_share('llama-3-70b')} %. Every matrix is twice as wide and adapted in each layer, so the "
                "number of layers cancels and the share falls as one over the width.",
                right=True,
            ),
            Choice(
                "About 0.5 %: rank and targets decide, and they have not changed.",
                "They fix how thick A and B are and where; what they are compared with grows faster.",
            ),
            Choice(
                "About 1.3 %: there are 2.5 times as many layers with an adapter.",
                "The frozen weights come with their layers as well: the number of layers cancels.",
            ),
        ],
    ),
    FreeQuestion(
        key="questions-about-a-count",
        text=f"For rank 16 on all linear layers of Llama-3.1-8B you computed {EXPECTED:,}. Your colleague's "
        f"run prints {HALF:,} trainable params, and the total fits. What may have happened, and what do you "
        "look at before anybody trains?",
        model_answer="Exactly half: most likely rank 8. But a count does not identify a recipe: with ranks 8 "
        f"to 64 {len(SAME_COUNT)} configurations give this number, the other being rank "
        f"{SAME_COUNT[1][0]} on {SAME_COUNT[1][1].replace('+', ' and ')}. I look at r and target_modules in "
        "adapter_config.json, or at the shapes of lora_A, whose first side is the rank.",
        rubric=[
            "the count is proportional to the rank, so rank 8 would explain it",
            "other ranks with other targets give the same count, so the count alone does not decide",
            "look at adapter_config.json or at the tensors' shapes",
        ],
    ),
]
