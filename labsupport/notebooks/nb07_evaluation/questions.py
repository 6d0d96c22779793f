"""The questions that close notebook 07; the first is checkpoint 3 of the module page (guide 004)."""

from __future__ import annotations

from labsupport.teaching.questions import Choice, ChoiceQuestion, FreeQuestion, NumberQuestion

# The guide's 91 % and 94 %, of two methods that disagree on every tenth row.
DISCORDANT, DIFFERENCE = 0.10, 0.03


def _rows() -> float:
    """Rows that show the difference in four tests of five."""
    from labsupport.evaluation import power

    return float(power.rows_needed(DISCORDANT, DIFFERENCE))


QUESTIONS = [
    FreeQuestion(
        key="worse-on-unrelated-prompts",
        text="You SFT on 1,000 examples, and the evaluation shows that the model is now worse on prompts "
        "that "
        "have nothing to do with your task. What is the likely cause, and what is the fix?",
        model_answer="First whether it is so: the same prompts, template, number format and decoding before "
        "and after, and a difference larger than its interval. Then the likely cause is that training moved "
        "the model further than the task needed: a learning rate too high, more epochs than the validation "
        "loss asked for, or rows so alike that every prompt now looks like the task. Forgetting shows in the "
        "divergence from the old model and in the loss on general text long before it shows in a "
        "multiple-choice score; a model that answers everything in the task's form shows in a few replies. "
        "Fixes, in the order of their price: turn the adapter off for prompts that are not the task's; "
        "take an "
        "earlier checkpoint, chosen by task and general loss together; a lower learning rate or fewer steps; "
        "mix 10 to 20 % general rows into the training data; broaden the task's own rows, refusals included. "
        "Then measure both sides again, because what protects the one may cost the other.",
        rubric=[
            "checks that the two evaluations differ in the weights alone, and by more than chance",
            "cause: too far from the base (learning rate, epochs) or training rows too narrow",
            "a fix on the training side: fewer steps, lower learning rate, general rows mixed in",
            "measures general text or unrelated prompts at every checkpoint, not the task alone",
        ],
    ),
    NumberQuestion(
        key="rows-for-three-points",
        text="Two checkpoints are right on 91 % and 94 % of a test. They disagree on 10 % of its rows. "
        "How many "
        "independent rows must a paired test have to show such a difference in four cases of five, at a "
        "level "
        "of 5 %, two-sided?",
        answer=_rows,
        tolerance=0.03,
        unit="rows",
        why="Each row's difference is 1, -1 or 0, of variance 0.10 - 0.03² = 0.0991. "
        "(1.96 + 0.84)² · 0.0991 / 0.03² = 865.",
    ),
    ChoiceQuestion(
        key="eight-templates",
        text="A test has 120 rows, 15 from each of 8 templates. A bootstrap over its rows gives 24 % "
        "[17, 32]. "
        "You want to know how sure the 24 % are for messages of the same kind that have other templates. "
        "What "
        "do you make of the interval?",
        choices=[
            Choice(
                "It is sound, because a bootstrap needs no assumption on how the rows came about.",
                "It needs one: that what is drawn was drawn independently. Rows of one template were not.",
            ),
            Choice(
                "It is too wide, because rows of one template are easier to predict than others.",
                "That would make rows more alike, and alike rows make the true interval wider.",
            ),
            Choice(
                "It is too narrow, because there are about eight things to draw from, and not 120.",
                "Rows of a template are right or wrong together. Drawing templates shows that scatter.",
                right=True,
            ),
            Choice(
                "It can be mended by drawing ten times as many resamples from the same rows.",
                "More resamples make the ends of this interval steadier, and leave it where it is.",
            ),
        ],
    ),
    ChoiceQuestion(
        key="word-for-word-the-base",
        text="Training loss fell from 2.3 to 0.2, and the loss on held-out rows with it. Your evaluation "
        "script "
        "reports that the tuned model does no better than before. What do you look at first?",
        choices=[
            Choice(
                "Whether a lower learning rate brings the loss on held-out rows down further.",
                "It came down already, so the weights have learned. Something lies between them and the "
                "score.",
            ),
            Choice(
                "Whether the replies are those of the base model, word for word, adapter and all.",
                "It costs two replies. If they are, the script never used the adapter.",
                right=True,
            ),
            Choice(
                "Whether the test has enough rows for an improvement of this size to be seen.",
                "From 2.3 to 0.2 is no small effect: a few rows would show it.",
            ),
            Choice(
                "Whether the rank is high enough to store what the held-out rows ask for.",
                "The held-out loss says that it is: the model did learn what they ask for.",
            ),
        ],
    ),
]
