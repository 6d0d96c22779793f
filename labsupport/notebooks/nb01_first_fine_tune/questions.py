"""The questions that close notebook 01."""

import math

from labsupport.teaching.questions import Choice, ChoiceQuestion, FreeQuestion, NumberQuestion

CHANCES = (0.9, 0.4, 0.45, 0.99)  # of the right tokens; at the third another token has more
NLL = -sum(map(math.log, CHANCES))


def blind_guess() -> float:
    """NLL in nats of a value of three tokens, if all of Llama-2's 32,000 are equally likely."""
    return -3 * math.log(1 / 32_000)


QUESTIONS = [
    ChoiceQuestion(
        "which-tokens-are-trained",
        "Which tokens of this training chat, in Mistral's template, keep a label other than -100, "
        "so that the model "
        'learns to answer and then to stop? <s>[INST] Where is my tent? [/INST]{"intent":"delivery"}</s>',
        [
            Choice(
                'From <s> to "delivery"}</s>: all of it, since it is a chat.',
                "Then it is also trained to write the customer's message, which is most of the tokens.",
            ),
            Choice(
                'From {"intent" to "delivery"}: the answer, and no more.',
                "Nothing would then teach the model to stop, and it might go on after the closing bracket.",
            ),
            Choice(
                'From {"intent" to </s>: the answer and the sign of its end.',
                "What stands before is read and not learned. The end is a part of what the model must write.",
                right=True,
            ),
            Choice(
                'From [/INST] to "delivery"}: its opening and the answer.',
                "[/INST] is put there by the template before the model's turn; and the end is missing.",
            ),
        ],
    ),
    NumberQuestion(
        "nll-of-blind-guessing",
        "Llama-2 has a vocabulary of 32,000 tokens. The right value of a field takes three of them. "
        "What is this "
        "value's negative log-likelihood for a model that finds all tokens equally likely at each place?",
        blind_guess,
        tolerance=0.01,
        unit="nats",
        why="Each token costs ln 32,000 = 10.4, and a value's NLL is the sum over its tokens. If the field "
        "has eight possible values, ln 8 = 2.08 is the cost of a blind guess only where nothing but these "
        "eight can be written: under constraints, or for a classifier.",
    ),
    ChoiceQuestion(
        "exact-match-without-generating",
        "A right answer of four tokens is scored by force. The model gives these tokens the probabilities "
        f"{', '.join(map(str, CHANCES))}. Each was its first choice but the third, where another token had "
        "0.5. What follows for the reply that it writes greedily?",
        [
            Choice(
                "It leaves the right answer at the third token.",
                "Greedy decoding takes the first choice at each place. Up to the third these are the right "
                "ones, and from there on forcing and writing see different texts.",
                right=True,
            ),
            Choice(
                "Its fourth token is right again, with 0.99.",
                "The 0.99 holds after the right third token. After the other one nothing is known "
                "about the fourth.",
            ),
            Choice(
                f"It is right: {NLL:.2f} nats are below a blind guess.",
                "A small sum can hide a token that was second choice, and one is enough for another reply.",
            ),
            Choice(
                "Its second token is wrong, at less than a half.",
                "It need not have half of the probability, only more than any other token: it was "
                "the first choice.",
            ),
        ],
    ),
    FreeQuestion(
        "why-production-scores-lower",
        "The model scores lower on the production messages than on the lookalike ones, although training saw "
        "neither. Why?",
        "The lookalike messages have other phrasings than the training messages, but they come from the "
        "same generator: the same kinds of sentences, with products and order ids inserted in the same way. "
        "The production messages were written one by one (by a language model, too): typos, two problems in "
        "one mail, politeness and rants, products named loosely or not at all. What the generator never "
        "makes, training cannot teach and the lookalike set cannot show. Only messages like those you will "
        "receive tell how good you are on them.",
        [
            "The lookalike set shares its origin, the generator, with the training data.",
            "Production has things that training never showed; you name at least one.",
            "So a test from the training data's source says too little about real use.",
        ],
    ),
    ChoiceQuestion(
        "what-a-test-could-have-seen",
        "Your tuned model and a prompt answer the same 100 messages. On 25 of them only one of the two is "
        "right: 15 times yours, 10 times the prompt. What do you report?",
        [
            Choice(
                "Yours is 5 points better, since both had the same messages.",
                "15 against 10 is an everyday result of 25 tosses of a coin: they scatter by 5 "
                "heads more or less.",
            ),
            Choice(
                "The two are equally good: -5 to +15 contains zero.",
                "The interval contains +10 as well. That zero is in it does not show that the "
                "difference is zero.",
            ),
            Choice(
                "A tuned model that is 20 % better: it won 15 of 25.",
                "The 75 messages on which they agree belong to the users' experience, too: the lead "
                "is 5 of 100.",
            ),
            Choice(
                "Open: a lead of 5 points, and 14 could have been seen.",
                "The difference scatters by the root of 25, 5 points; 2.8 times that is what such a test "
                "shows in four cases of five. More messages are the remedy.",
                right=True,
            ),
        ],
    ),
]
