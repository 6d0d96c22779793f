"""Why a fine-tune goes wrong: the catalogue of causes, and the signs of them."""

from __future__ import annotations

from dataclasses import dataclass

PROVES, SUGGESTS = "proves", "suggests"


@dataclass(frozen=True)
class Cause:
    """One way for a fine-tune to go wrong. id: stable, in words joined by hyphens. why: why it does what one
    sees, in two sentences. check: what to look at next. fix: what to change."""

    id: str
    title: str
    why: str
    check: str
    fix: str


@dataclass(frozen=True)
class Sign:
    """A piece of evidence for a cause. cause: its id. strength: PROVES where the cause follows from what was
    seen, SUGGESTS where other explanations are left. text: what was seen, with the numbers. where: in which
    file or row it stands, "" where the text says so."""

    cause: str
    strength: str
    text: str
    where: str = ""


CATALOGUE = (
    Cause(
        "template-mismatch",
        "Trained in another chat format than the one the model is asked in",
        "The trained rows do not look like what the model gets when it is asked with its chat template. "
        "What it learned hangs on the form it was learned in, so it is not there when asked.",
        "Print one training row as the trainer feeds it beside tokenizer.apply_chat_template of the same "
        "question: up to the answer both must be the same tokens.",
        "Give the trainer messages, or prompt and completion as messages, and leave the template to it.",
    ),
    Cause(
        "prompt-in-loss",
        "The loss is on the prompt as well",
        "The model is trained to write the questions too. Where these are longer than the answers, most of "
        "each step goes into them, and the logged loss says little about the answers.",
        "Decode the tokens of a batch whose label is not -100: are they the answer only?",
        "Write the rows as prompt + completion; for messages set assistant_only_loss=True.",
    ),
    Cause(
        "eos-not-learned",
        "The end of the answer is not trained",
        "No loss ever falls on the token that ends a turn. Nothing teaches the model to write it, so it goes "
        "on after its answer until max_new_tokens.",
        "Look at the label of the last token of a row's answer; count the replies that reach max_new_tokens.",
        "Keep the end-of-turn token in the labels: do not mask by pad_token_id where padding is EOS, and "
        "leave the collator to SFTTrainer.",
    ),
    Cause(
        "lr-too-high",
        "The learning rate is too high",
        "The steps are longer than the loss surface is smooth, so they throw the model away from what it "
        "could do. It ends as bad as an untrained one, or worse.",
        "Plot loss and gradient norm step by step; try a third of the rate for fifty steps.",
        "Lower learning_rate to a third or a tenth, add warm-up steps, keep max_grad_norm at 1.",
    ),
    Cause(
        "lr-too-low",
        "The learning rate is too low",
        "The adapter hardly moved away from zero in the steps it had. The model replies as its base does.",
        "Try ten times the rate for fifty steps: does the loss fall faster and stay smooth?",
        "Raise learning_rate (LoRA mostly wants 1e-4 to 1e-3, ten times what full fine-tuning takes), or "
        "train for more steps.",
    ),
    Cause(
        "capacity-too-small",
        "The adapter is too small for what it has to store",
        "Facts that follow from nothing have to be stored in the adapter's parameters, and these hold about "
        "two bits each. The loss stays on a plateau though the learning rate is right.",
        "Train the same rows with four times the rank, or on all linear layers: does the plateau fall?",
        'Raise r, or target_modules="all-linear"; or look such facts up instead of training them in.',
    ),
    Cause(
        "memorised",
        "A small training set was learned by heart",
        "The same few rows were repeated until the model knew them word for word. What it learned does not "
        "carry over to other rows, so the loss of the evaluation rises while that of the training vanishes.",
        "Find the step with the lowest evaluation loss; compare replies to training rows with those to "
        "others.",
        "Take more rows, fewer epochs, or the checkpoint with the lowest evaluation loss "
        "(load_best_model_at_end).",
    ),
    Cause(
        "leaked-eval",
        "Evaluation rows stand in the training data",
        "The model was trained on what it is tested with. The result is that of remembering and says nothing "
        "of new rows.",
        "Evaluate once more on the rows that are not in the training data.",
        "Take the shared rows out of the training data, and split by source before rows are varied.",
    ),
    Cause(
        "adapter-inactive",
        "The replies were made without the adapter",
        "The script that generated them had the base model only, or the adapter did not apply to it. What "
        "was trained had no part in the result.",
        "Ask one question twice, with and without model.disable_adapter(): the replies must differ.",
        "Load with PeftModel.from_pretrained(base, RUN) and mind its warnings about missing keys.",
    ),
    Cause(
        "no-gradient",
        "No gradient reached the adapter",
        "The adapter is as it was initialised: B is zero, so it adds nothing. Reentrant activation "
        "checkpointing does this when the input of the first block needs no gradient.",
        "Look for grad_norm 0 in the log and for `requires_grad` warnings at the first step.",
        'Set activation_checkpointing_kwargs={"use_reentrant": False}, or call '
        "model.enable_input_require_grads() before training.",
    ),
    Cause(
        "truncated",
        "max_length cuts the answers off",
        "The prompt fills the row up to max_length, and what comes behind it is dropped. Of many rows "
        "nothing, or only the beginning of the answer, was trained on.",
        "Count the rows that are longer than max_length, and of these the trained tokens that are left.",
        "Raise max_length above the longest row, shorten the prompts, or leave the long rows out.",
    ),
    Cause(
        "noisy-labels",
        "A part of the training answers is wrong",
        "Answers that contradict each other cannot be learned from the question, only by heart. They pull "
        "the model away from what the right rows teach.",
        "Read fifty rows by hand, those with the highest loss after training first.",
        "Correct or drop the wrong rows; a smaller clean set is better than a larger one with errors.",
    ),
    Cause(
        "padding-side",
        "Batches were padded on the right for generation",
        "Generation goes on behind the last token of a row, and with right padding that is padding. Short "
        "prompts of a batch get broken replies, the longest one a good one.",
        "Generate the same rows one by one: are the replies better?",
        'Set tokenizer.padding_side = "left" before generating in batches.',
    ),
    Cause(
        "eval-dtype",
        "Evaluated in another number format than trained in",
        "The adapter was trained against weights of one format and runs on those of another. Where they "
        "differ enough, the replies change.",
        "Generate the same rows in the format of the training: how many replies change?",
        "Load base and adapter in the dtype (and quantization) of the training.",
    ),
    Cause(
        "eval-template",
        "Asked with another template or system prompt than trained with",
        "The evaluation's prompts are not the ones that training used. The model is asked in a form in which "
        "it has not learned to answer.",
        "Print a prompt of the evaluation script beside the training row of the same question, token by "
        "token.",
        "Ask with apply_chat_template(..., add_generation_prompt=True) of the tokenizer in the run's folder, "
        "and with the system prompt of the training.",
    ),
)
BY_ID = {cause.id: cause for cause in CATALOGUE}
