"""The questions that close notebook 01."""

import math

from labsupport.tasks import tickets
from labsupport.teaching.questions import Choice, ChoiceQuestion, FreeQuestion, NumberQuestion


def blind_guess() -> float:
    """NLL in nats of guessing among all intents with equal probability."""
    return -math.log(1 / len(tickets.INTENTS))


QUESTIONS = [
    ChoiceQuestion(
        "which-tokens-are-trained",
        "Which tokens of a training chat should have a label other than -100, so that the model learns to "
        "answer and then to stop?",
        [
            Choice(
                "All of them.",
                "Then it is also trained to write the system prompt and the customer's message, which is "
                "most of the tokens here.",
            ),
            Choice(
                "Those of the customer's message.",
                "That is what the model reads. It would learn to write like a customer.",
            ),
            Choice(
                "Those of the answer, without the end-of-turn token after it.",
                "Nothing would then teach the model to stop, and it might go on after the closing bracket.",
            ),
            Choice(
                "Those of the answer and the end-of-turn token after it.",
                "The prompt is read and not learned. The end-of-turn token is part of what the model must "
                "write.",
                right=True,
            ),
        ],
    ),
    NumberQuestion(
        "nll-of-blind-guessing",
        f"A model gives each of the {len(tickets.INTENTS)} intents the same probability, whatever the "
        "message says. What is the negative log-likelihood (natural logarithm) of the right intent?",
        blind_guess,
        tolerance=0.01,
        unit="nats",
        why=f"It is -ln(1/{len(tickets.INTENTS)}) = ln {len(tickets.INTENTS)}. A model whose mean NLL "
        "is above this does worse than blind guessing, however sure it sounds. "
        "(In bits, take the logarithm to base 2.)",
    ),
    ChoiceQuestion(
        "exact-match-without-generating",
        "We show the model the right answer and look whether each of its tokens was the model's first "
        "choice. Why does this give exact match without generating anything?",
        [
            Choice(
                "The model has seen the right answer, so it only needs to copy it.",
                "Each prediction sees only the tokens before it. The token to be predicted is hidden.",
            ),
            Choice(
                "Greedy decoding writes the first choice at each step. If that is the right token every "
                "time, what it writes is the right answer.",
                "Step by step the text so far is the right one, so the forced pass and the greedy one "
                "see the same. At the first miss they part, and the reply has other tokens. (Now and then "
                "these spell the same text: the measure is a lower bound.)",
                right=True,
            ),
            Choice(
                "An answer with a low NLL is always the one that greedy decoding writes.",
                "A small sum can still hide one token that was second choice, and one is enough to make the "
                "reply another one.",
            ),
            Choice(
                "Greedy decoding is random, and a likelihood is not.",
                "Greedy decoding draws nothing: it always takes the likeliest token. Sampling is random.",
            ),
        ],
    ),
    FreeQuestion(
        "why-production-scores-lower",
        "The model scores lower on the production messages than on the lookalike ones, although training saw "
        "neither. Why?",
        "The lookalike messages have other phrasings than the training messages, but they come from the same "
        "generator: the same kinds of sentences, with products and order ids inserted in the same way. The "
        "production messages were written one by one: typos, two problems in one mail, politeness and rants, "
        "products named loosely or not at all. What the generator never makes, training cannot teach and the "
        "lookalike set cannot show. Only messages like those you will receive tell how good you are on them.",
        [
            "The lookalike set shares its origin, the generator, with the training data.",
            "Production has things that training never showed; you name at least one.",
            "So a test from the training data's source says too little about real use.",
        ],
    ),
]
