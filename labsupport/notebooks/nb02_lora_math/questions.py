"""The questions that close notebook 02."""

from __future__ import annotations

from labsupport.teaching.questions import Choice, ChoiceQuestion, FreeQuestion, NumberQuestion


def entries() -> float:
    """Entries with a gradient in the first step of rank 32 in a 4,096 x 14,336 layer, at most: those of B."""
    import torch
    from torch import nn

    from labsupport.models import lora

    with torch.device("meta"):
        return float(lora.LoRALinear(nn.Linear(14336, 4096, bias=False), rank=32, alpha=16).B.numel())


QUESTIONS = [
    NumberQuestion(
        key="gradients-in-the-first-step",
        text="A layer with 14,336 inputs and 4,096 outputs gets LoRA of rank 32, initialised as PEFT does. "
        "How many parameters have a gradient other than zero in the very first step, at most?",
        answer=entries,
        tolerance=0.0,
        unit="parameters",
        why="Only B's, 4,096 x 32: A's gradient is (alpha / r) Bᵀ G, and B is zero.",
    ),
    ChoiceQuestion(
        key="undo-a-tripled-alpha",
        text="A recipe for Adam, without weight decay, says alpha 8. You set alpha 24 at the same rank. What "
        "gives exactly the recipe's training again, at every step?",
        choices=[
            Choice(
                "A third of the learning rate, for A and for B alike.",
                "This agrees in the first step only, while B is zero. Then A moves a third as far too.",
            ),
            Choice(
                "A ninth of the learning rate, for A and B both alike.",
                "Nine is what SGD needs in its first step, where alpha enters squared.",
            ),
            Choice(
                "No change: Adam ignores the scale of every gradient.",
                "Of gradients, yes; but alpha scales the update too, which stays three times as large.",
            ),
            Choice(
                "A third of the learning rate for B; A's as it was.",
                "Adam ignores the scale of gradients, so B's path shrinks to a third, A's is kept, and alpha "
                "makes up for the third: exact, up to Adam's epsilon.",
                right=True,
            ),
        ],
    ),
    ChoiceQuestion(
        key="what-a-high-rank-shows",
        text="After 50 steps of AdamW you find that 90 % of the energy of an update takes rank 300 of 1,024. "
        "What does this say about LoRA of rank 8 on that task?",
        choices=[
            Choice(
                "That it can keep at most 8 / 300 of the gain.",
                "Energy is not usefulness: cut to rank 8 and measure what the task keeps of the gain.",
            ),
            Choice(
                "Next to nothing: signs fill any directions.",
                "A few steps along signs have a high rank whatever is learned. A control on shuffled answers "
                "and a cut that is scored would tell more.",
                right=True,
            ),
            Choice(
                "That the rank of LoRA should be about 300 here too.",
                "A rank for energy says how to copy this update, not what another one of low rank can reach.",
            ),
            Choice(
                "That the task needs more than AdamW's 50 steps.",
                "The rank of an update does not tell whether a run was long enough; its loss might.",
            ),
        ],
    ),
    ChoiceQuestion(
        key="which-rule-is-level",
        text="Adam, small steps, and inputs that hardly resemble each other (mean cosine 0). You "
        "go from rank 8 to 128. Which rule keeps the change of the output on fresh inputs about level?",
        choices=[
            Choice(
                "alpha = 2r, since its factor in front of BA is 2 at any rank.",
                "The factor stays, and 16 times as many directions add up: the change grows about fourfold.",
            ),
            Choice(
                "alpha fixed, since Adam's steps all have the same length.",
                "That holds on inputs along the gradient. On others r random signs add up to the root of r, "
                "and alpha / r falls faster than that grows.",
            ),
            Choice(
                "alpha / sqrt(r), since r random signs add up to sqrt(r).",
                "On inputs that do not point along the gradient's rows the directions add like dice.",
                right=True,
            ),
            Choice(
                "None of the three: a learning rate for each rank is needed.",
                "In training at large it may be wise, but this first step is level under one of the three.",
            ),
        ],
    ),
    FreeQuestion(
        key="what-a-doubled-rank-changes",
        text="A colleague doubles the rank, keeps alpha = 2r and the learning rate, trains with Adam, and "
        "says that only the capacity changed. What else did, and how would you find out which of the two "
        "mattered?",
        model_answer="With alpha = 2r the scale stays 2, and twice as many directions take a step of Adam's "
        "fixed length, so a small step changes the output more: by the root of 2 where inputs and gradient "
        "have little to do with each other, up to 2 where they point the same way. As if the learning rate "
        "had risen. Tune the learning rate for each rank, or take the rule that is level on your inputs, and "
        "compare the best of each.",
        rubric=[
            "the factor alpha / r did not change, but the size of a step in the output grows with r",
            "this acts like a higher learning rate",
            "how much depends on how far the inputs point along the gradient",
            "the comparison needs a tuned learning rate for each rank, or a rule that is level there",
        ],
    ),
]
