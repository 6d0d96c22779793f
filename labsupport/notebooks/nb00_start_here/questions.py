"""The questions that close notebook 00."""

from labsupport.teaching.questions import Choice, ChoiceQuestion, FreeQuestion

QUESTIONS = [
    ChoiceQuestion(
        "prompt-already-good-enough",
        "A prompt with a few examples already does your task as well, as fast and as cheaply as you need. "
        "What do you do next?",
        [
            Choice(
                "Fine-tune anyway: a tuned model is always better.",
                "It need not be, and it is one more thing to store, to test and to train again when the base "
                "model changes.",
            ),
            Choice(
                "Keep the prompt, and keep its score as the number that a fine-tune would have to beat.",
                "Fine-tuning needs a reason: quality, latency or cost that prompting cannot reach.",
                right=True,
            ),
            Choice(
                "Preference tuning (DPO), since it comes after prompting.",
                "DPO teaches which of two answers is liked better. It usually follows supervised "
                "fine-tuning, and nothing here asks for either.",
            ),
            Choice(
                "Continued pretraining on your documents.",
                "The dearest of the options, for a model that lacks a whole language or field. Yours "
                "does the task.",
            ),
        ],
    ),
    ChoiceQuestion(
        "was-the-tuning-worth-it",
        "Somebody reports: our fine-tuned model gets four messages in five right. Which further figure tells "
        "you most about whether the tuning was worth it?",
        [
            Choice(
                "Its training loss.",
                "Loss says how well the model fits what it was trained on. It says nothing about the "
                "alternatives.",
            ),
            Choice(
                "Its score on the training messages.",
                "A model can know those by heart. That tells you about memory, not about new messages.",
            ),
            Choice(
                "What simple alternatives score on the same messages: rules, a classic classifier, the "
                "untuned model with a good prompt.",
                "That is a baseline. Only the distance from the best of them is what the tuning bought.",
                right=True,
            ),
            Choice(
                "What a much larger model scores on a public benchmark.",
                "Another model on another task: the two numbers cannot be compared.",
            ),
        ],
    ),
    ChoiceQuestion(
        "why-families-are-drawn",
        "The test messages come in families, one way of phrasing each. Why does the bootstrap behind our "
        "intervals draw whole families instead of single messages?",
        [
            Choice(
                "Messages of a family tend to be right or wrong together, so they are less evidence than as "
                "many unrelated ones.",
                "Drawing single messages would treat them as unrelated and give an interval that is too "
                "narrow.",
                right=True,
            ),
            Choice(
                "It makes the average score higher.",
                "The average is the same, whatever the bootstrap draws. Only the width of the interval "
                "changes.",
            ),
            Choice(
                "It is faster.",
                "Speed is no reason: either way takes a moment. The question is what counts as independent.",
            ),
            Choice(
                "It makes the interval narrower.",
                "The other way round: where families stick together, the honest interval is wider.",
            ),
        ],
    ),
    FreeQuestion(
        "retrieval-or-fine-tuning",
        "An assistant must quote today's prices and always answer in your company's form. What does "
        "retrieval do here that fine-tuning does not, and what can fine-tuning do in turn?",
        "Retrieval puts today's price list into the prompt, so a changed price needs no training and the "
        "source can be shown beside the answer. Fine-tuning would store yesterday's prices in the weights, "
        "unreliably. What it does well is behaviour: keeping to the form every time, without spending prompt "
        "tokens on instructions and examples. The two can be combined.",
        [
            "Retrieval: facts can change without training.",
            "Retrieval: you can see and show where an answer came from.",
            "Fine-tuning: form, manner or a task, learned once instead of explained in each prompt.",
        ],
    ),
]
