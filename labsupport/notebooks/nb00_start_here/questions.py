"""The questions that close notebook 00."""

from labsupport.evaluation.intervals import clustered_error
from labsupport.teaching.questions import Choice, ChoiceQuestion, FreeQuestion

# 400 messages in 16 families of 25, of which 12 are right throughout and 4 wrong.
RIGHT = [float(i < 300) for i in range(400)]
BY_FAMILY = 196 * clustered_error(RIGHT, [str(i // 25) for i in range(400)])
BY_ROW = 196 * clustered_error(RIGHT, [str(i) for i in range(400)])

QUESTIONS = [
    ChoiceQuestion(
        "prompt-already-good-enough",
        "A prompt with three examples sorts your invoices: 191 of 200 right, fast and cheap enough. A tuned "
        "model gets 193 of the same 200; the paired difference is +1 point [-2, +4]. What do you do?",
        [
            Choice(
                "Take the tuned model: 193 is more than 191, and it cost only an afternoon.",
                "Two invoices of 200 are well inside the interval. For that you would store a model, test "
                "it, and train it again whenever the base model changes.",
            ),
            Choice(
                "Try further prompts on these 200 until one of them gets past 193.",
                "Of many tries on the same rows the best is partly lucky. Choose on validation rows; the "
                "test set then judges once.",
            ),
            Choice(
                "Keep the prompt: its 191 are the number that a tuned model has yet to beat.",
                "Fine-tuning needs a reason, a gain in quality, speed or cost. None was shown here.",
                right=True,
            ),
            Choice(
                "Tune for twice as many epochs, so that the interval gets clear of zero.",
                "The width of the interval comes from the 200 messages, not from the training. More epochs "
                "move the number, in either direction.",
            ),
        ],
    ),
    ChoiceQuestion(
        "was-the-tuning-worth-it",
        "A team reports that its tuned model sorts 91 % of new mails into the right one of five folders. "
        "Four more figures are on the table. Which of them says most about whether the tuning was worth it?",
        [
            Choice(
                "Of the same mails, 88 % belong into the folder “other”.",
                "So a constant has 88 %. It is the first thing to compare with: of the 91, the tuning may "
                "have bought 3 points. The prompt of this notebook that always says “normal” looked good in "
                "just this way.",
                right=True,
            ),
            Choice(
                "On the mails that it was trained on it gets 99 % right.",
                "A model can know those by heart. That says something about memory and nothing about what "
                "other means would have reached.",
            ),
            Choice(
                "Its training loss fell from 2.3 to 0.1 within two epochs.",
                "The loss says how well the model fits what it was trained on. Rules and prompts have none "
                "to compare.",
            ),
            Choice(
                "A model of fifty times its size gets 94 % on a benchmark.",
                "Another model on another task: the two numbers cannot be compared.",
            ),
        ],
    ),
    ChoiceQuestion(
        "why-families-are-drawn",
        "A test set has 400 messages, 16 ways of phrasing with 25 messages each. All messages of a phrasing "
        "come out alike: 12 phrasings are right throughout, 4 wrong, so 75 % are right. What is an honest "
        "95 % interval?",
        [
            Choice(
                "75 % ± 1 point or less: within a phrasing nothing varies at all.",
                "That nothing varies within a phrasing means that its 25 messages tell you what one would. "
                "It makes the interval wide.",
            ),
            Choice(
                f"75 % ± {BY_ROW:.0f} points: there are 400 messages that can be right or wrong.",
                "That takes the rows as unrelated. They come in bundles of 25, so there is far less "
                "evidence than 400 messages.",
            ),
            Choice(
                "75 % ± 17 points: 25 messages in a phrasing are what one really has.",
                "The number of phrasings counts, not how many messages each has: with 1,000 messages in "
                "each you would know no more.",
            ),
            Choice(
                f"75 % ± {BY_FAMILY:.0f} points: there are 16 phrasings that can be right or wrong.",
                "With rows that come out alike, a family counts as one observation: 1.96 times the root of "
                "0.75 times 0.25 over 16. Your formula gives the same.",
                right=True,
            ),
        ],
    ),
    FreeQuestion(
        "retrieval-or-fine-tuning",
        "An assistant must quote today's prices and always answer in your company's form. What does "
        "retrieval do here that fine-tuning does not, and what can fine-tuning do in turn?",
        "Retrieval puts today's price list into the prompt, so a changed price needs no training and the "
        "source can be shown beside the answer. Fine-tuning would store yesterday's prices in the weights, "
        "unreliably. What it does well is behaviour: keeping to the form every time, without spending "
        "prompt tokens on instructions and examples. The two can be combined.",
        [
            "Retrieval: facts can change without training.",
            "Retrieval: you can see and show where an answer came from.",
            "Fine-tuning: form, manner or a task, learned once instead of explained in each prompt.",
        ],
    ),
]
