"""The questions that close notebook 02."""

from __future__ import annotations

from labsupport.teaching.questions import Choice, ChoiceQuestion, FreeQuestion, NumberQuestion


def entries() -> float:
    """Non-zero entries that one step of SGD on rank 8 can change in a 576 x 1536 layer: those of B."""
    from torch import nn

    from labsupport.models import lora

    return float(lora.LoRALinear(nn.Linear(1536, 576, bias=False), rank=8, alpha=16).B.numel())


QUESTIONS = [
    NumberQuestion(
        key="gradients-in-the-first-step",
        text="A layer with 1,536 inputs and 576 outputs gets LoRA of rank 8, initialised as PEFT does. "
        "How many parameters have a gradient other than zero in the very first step, at most?",
        answer=entries,
        tolerance=0.0,
        unit="parameters",
        why="Only B's, 576 x 8: A's gradient is (alpha / r) Bᵀ G, and B is zero.",
    ),
    ChoiceQuestion(
        key="undo-a-doubled-alpha",
        text="A recipe for Adam says alpha 16; you set alpha 32 and want exactly the same training. "
        "What undoes the change?",
        choices=[
            Choice(
                "Halve the learning rate.",
                "This agrees in the first step only, while B is zero. From then on A moves half as far too.",
            ),
            Choice(
                "Halve the learning rate of B and leave A's.",
                "Adam ignores the scale of gradients, so B's path is halved, A's is kept, and alpha makes up "
                "for the half: exact, up to Adam's epsilon and weight decay.",
                right=True,
            ),
            Choice(
                "Divide the learning rate by four.",
                "That is what SGD does in its first step, where alpha enters squared.",
            ),
            Choice(
                "Nothing: Adam ignores the scale of gradients.",
                "Of gradients, yes; but alpha scales the update too, which stays doubled.",
            ),
        ],
    ),
    ChoiceQuestion(
        key="high-rank-of-an-update",
        text="An update made by few steps of Adam has a rank for 90 % of its energy in the hundreds. What "
        "does this show about LoRA of rank 16?",
        choices=[
            Choice(
                "That it cannot learn the task.",
                "Energy is not usefulness. Cut the update to rank 16 and measure the loss: that is the test.",
            ),
            Choice(
                "Little: Adam gives every entry a similar step, which fills many directions for any task.",
                "The signs of a low-rank gradient have a higher rank. So compare with SGD, with "
                "shuffled answers and with the loss after cutting.",
                right=True,
            ),
            Choice(
                "That the rank should be in the hundreds.",
                "A rank for energy says how to copy this update, not what another one of low rank can reach.",
            ),
            Choice(
                "That the singular values are wrong.",
                "They are right; the same matrices trained with SGD have other ones.",
            ),
        ],
    ),
    FreeQuestion(
        key="what-a-doubled-rank-changes",
        text="A colleague doubles the rank, keeps alpha = 2r and the learning rate, trains with Adam, and "
        "says that only the capacity changed. What else did, and how would you find out which of the two "
        "mattered?",
        model_answer="With alpha = 2r the scale stays 2, and each of twice as many directions takes a step "
        "of Adam's fixed length, so the first steps change the output about twice as much: as if the "
        "learning rate had risen. Run both ranks with alpha fixed, or tune the learning rate for "
        "each rank, and compare the best of each.",
        rubric=[
            "the factor alpha / r did not change, but the size of a step in the output did (it grows with r)",
            "this acts like a higher learning rate",
            "the comparison needs alpha fixed, or a tuned learning rate for each rank",
        ],
    ),
]
