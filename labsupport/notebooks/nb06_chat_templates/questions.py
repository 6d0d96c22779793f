"""The questions that close notebook 06; the first is checkpoint 4 of the module page (guide 004)."""

from __future__ import annotations

from labsupport.teaching.questions import Choice, ChoiceQuestion, FreeQuestion, NumberQuestion

ANSWERS = (12, 30, 7)  # tokens each
ASKED, SYSTEM = 20, 9
OPENING, END = [1, 520, 9531, 198], 2  # ChatML's, as the course's tokenizer has them


def _share() -> float:
    """Learned tokens of a ChatML conversation of these lengths, in percent of all."""
    from labsupport.chat_formats.loss_masks import assistant_labels, trained_share

    def turn(header, length):
        return [*header, *[7] * length, END, 198]

    ids = turn([1, 9690, 198], SYSTEM)
    for answer in ANSWERS:
        ids += turn([1, 4093, 198], ASKED) + turn(OPENING, answer)
    return 100 * trained_share(assistant_labels(ids, OPENING, END))


QUESTIONS = [
    FreeQuestion(
        key="template-or-joined-strings",
        text="What is the difference between `apply_chat_template` and joining strings such as "
        '"user: …" and "assistant: …" yourself? What breaks if you do the latter?',
        model_answer="The template writes the conversation in the very form the model was trained on: its "
        "own special tokens, which are one id each, around each turn, the header of the next answer if "
        "asked for, the default system prompt, the spaces and line breaks. Joined strings look like it and "
        'are other ids: the words "user" and ":" and "assistant" are ordinary text. An instruct model then '
        "reads something it has never seen, so it answers worse; nothing tells it that its turn is over, "
        "so it goes on and writes the user's next message, too; and what serves it later applies the "
        "template, so that the fine-tune has learned another form than it meets. A user who writes the "
        "word of a role begins a turn, and software that looks for the answer's borders to mask the rest "
        "does not find them. A base model ships no template: there you have to choose one, and train the "
        "embeddings of its new tokens.",
        rubric=[
            "special tokens with an id of their own against ordinary words",
            "the form must be the one the model was trained on, to the space, in training and in use",
            "no end of turn: the model does not stop, or speaks for the user",
            "the loss cannot tell answers from prompts, or text written by users from turns",
        ],
    ),
    NumberQuestion(
        key="share-of-three-answers",
        text=f"A conversation in ChatML: a system message of {SYSTEM} tokens, three user messages of {ASKED} "
        f"each, and answers of {', '.join(map(str, ANSWERS[:-1]))} and {ANSWERS[-1]}. A header has 3 tokens, "
        "the assistant's 4; behind each message stand `<|im_end|>` and a line break. Every answer is "
        "learned, with its end. What share of the row's tokens is that?",
        answer=_share,
        tolerance=0.01,
        unit="%",
        why="Learned are the 49 tokens of the answers and 3 ends, 52. The row has 14 of the system's turn, "
        "3 x 25 of the user's and 3 x 6 + 49 of the assistant's, 156.",
    ),
    ChoiceQuestion(
        key="completion-only-on-messages",
        text="A colleague gives SFTTrainer of TRL 1.16 rows with `messages` and sets "
        "`completion_only_loss=True`. Which tokens of a row are learned?",
        choices=[
            Choice(
                "Those of the last answer, as of a prompt with a completion.",
                "That needs rows with the keys `prompt` and `completion`: `messages` have no completion.",
            ),
            Choice(
                "Those of all answers in the row, each with its end of turn.",
                "That is `assistant_only_loss`, for which the template needs markers around the answers.",
            ),
            Choice(
                "None, because the trainer stops with an error that says so.",
                "It would be better so: the setting is passed over without a word.",
            ),
            Choice(
                "All of them: the system's, the user's and every header too.",
                "The setting looks for the keys `prompt` and `completion`; on `messages` it does nothing "
                "and says nothing. Look at the labels of a batch before you train.",
                right=True,
            ),
        ],
    ),
    ChoiceQuestion(
        key="padding-is-the-end",
        text="Your loop sets `tokenizer.pad_token = tokenizer.eos_token` and batches with transformers' "
        "`DataCollatorForLanguageModeling`. The fine-tuned model answers well and then goes on and on. Why?",
        choices=[
            Choice(
                "The collator gives each end of turn the label -100 as well.",
                "It knows padding by its id, and that id is the end's. TRL's collator pads the labels by "
                "place, so there the end keeps its loss.",
                right=True,
            ),
            Choice(
                "The collator fills rows up on the right and not on the left.",
                "In training the right is the usual side: the attention mask hides what was filled up.",
            ),
            Choice(
                "The collator cuts rows before their last token, the end.",
                "It fills rows up and cuts none; cutting is done where the row is tokenised.",
            ),
            Choice(
                "The collator teaches the padding, so the end is everywhere.",
                "Then the model would stop too early rather than too late; padding has the label -100.",
            ),
        ],
    ),
]
