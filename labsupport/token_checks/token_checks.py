"""Checks of the tokens that the trainer makes of the rows, and of what the loss sees of them."""

from __future__ import annotations

import math
import re

from labsupport.core.text import number
from labsupport.findings.check import Check
from labsupport.findings.finding import Hit, Rule, hit, hit_whole
from labsupport.token_checks.chat_markers import (
    control_tokens,
    rendered_as,
    template_of,
    tokens_around,
    whole,
    wrapped_in,
)
from labsupport.token_checks.trainer_view import decoded, setting
from labsupport.training_data.record import content_of

DOUBLE_BOS = Rule(
    "double-bos",
    "error",
    "The text begins with BOS, and the tokenizer adds another: the model never saw two, nor will it later.",
    "Leave the template to TRL: give it messages, not rendered text; or cut BOS off the text.",
)
DOUBLE_EOS = Rule(
    "double-eos",
    "warning",
    "TRL appends EOS to text that does not end with it exactly (a line break after it is enough): the model "
    "learns to go on after its end.",
    "Leave the template to TRL: give it messages, not rendered text; or cut what follows EOS off the text.",
)
PROMPT_IN_LOSS = Rule(
    "prompt-in-loss",
    "warning",
    "The loss covers the user's turns and the system message too, so the model is trained to write them.",
    "Write the rows as prompt + completion messages; for messages, assistant_only_loss does it too.",
)
PROMPT_BY_DEFAULT = Rule(
    "whole-conversation-in-loss",
    "note",
    "With TRL's defaults the loss covers every token of messages, the user's and the system's too.",
    "If only answers are meant: prompt + completion messages, or assistant_only_loss.",
)
CONTROL_IN_CONTENT = Rule(
    "control-token-in-content",
    "error",
    "What a turn says holds a token that the model reads as a control token: the turn ends or begins there.",
    "Take the token out of the content; the template writes those that are needed.",
)
OTHER_TEMPLATE = Rule(
    "other-template",
    "warning",
    "The text holds the marks of another model's chat format, which this one learns as words.",
    "Take the marks out and give the turns as messages; the model's template writes its own.",
)
NOTHING_LEFT = Rule(
    "nothing-left-to-train",
    "error",
    "No token of the row is in the loss: TRL drops a row that max_length leaves so without a word; elsewhere "
    "its loss is 0 or NaN.",
    "Raise max_length above the prompt's length, or shorten the prompt.",
)
ANSWER_CUT = Rule(
    "answer-truncated",
    "warning",
    "The end of the answers is cut off at max_length, and with it what teaches the model to stop.",
    "Raise max_length above the longest row, or leave the long rows out.",
)
TEXT_CUT = Rule(
    "text-truncated",
    "warning",
    "What stands behind max_length is never seen, and these texts have no end token.",
    'Raise max_length, split the texts, or pack them with packing_strategy "bfd_split".',
)
FEW_CUT = Rule(
    "few-rows-truncated",
    "note",
    "The end of some rows is cut off at max_length.",
    "Raise max_length above the longest row, or leave those rows out.",
)
BOUNDARY = Rule(
    "prompt-merges-with-completion",
    "warning",
    "Tokens merge where prompt and completion meet, so at inference the prompt ends in a token the model was "
    "not trained behind.",
    "Move the blank from the prompt's end to the completion's beginning, or write both as messages.",
)
FEW_PACKED = Rule(
    "few-packed-steps",
    "warning",
    "Packing puts many rows into one, so the run has few optimizer steps, too few to learn much.",
    "Lower per_device_train_batch_size or gradient_accumulation_steps, add epochs, or turn packing off.",
)
PAD_IS_EOS = Rule(
    "pad-is-eos",
    "note",
    "Harmless in TRL, which masks padding by position; with transformers' DataCollatorForLanguageModeling "
    "every EOS is masked too, and the model never learns to stop.",
    "Leave the collator to SFTTrainer, or set a pad_token of its own.",
)
RULES = (
    DOUBLE_BOS, DOUBLE_EOS, PROMPT_IN_LOSS, PROMPT_BY_DEFAULT, CONTROL_IN_CONTENT, OTHER_TEMPLATE,
    NOTHING_LEFT, ANSWER_CUT, TEXT_CUT, FEW_CUT, BOUNDARY, FEW_PACKED, PAD_IS_EOS,
)  # fmt: skip

SOME = 0.01  # share of rows below which cut-off rows are worth a note only: one in a hundred changes no run
FEWEST_STEPS = 20  # LoRA Without Regret: below 100 steps LoRA already wants 15 times the rate instead of 10
FEW_STEPS = 50  # warm-up and decay leave few of these at the rate; under FEWEST_STEPS `few-steps` speaks
# Where no model is named the course's tokenizer stands in, which needs many tokens for other scripts than
# Latin. There a row is too long by what Llama 3 needs for Chinese (1.24 characters a token on cc100, says
# tokenizer-arena on the hub) and by what code and JSON need of ASCII (prose has 4 characters a token).
TOKENS_A_CHARACTER, TOKENS_A_LETTER = 0.8, 0.35
PROMPTS_TRIED = 500  # bare prompts that are turned into tokens once more; how they end is alike in all rows
ADDED = ("<|begin_of_text|>", "<s>", "<bos>")  # by the tokenizers of Llama, Mistral and Gemma to every text
NEAR = 60  # characters around a control token that are shown as tokens


class Strings(Check):
    """BOS, EOS and the prompt in text and bare strings, which the template does not touch."""

    def __init__(self, run):
        super().__init__(run)
        self.tried, self.merged, self.example = 0, 0, ""

    def see_tokens(self, record, view):
        if record.chat and record.text is None or not view.ids or record.faults:
            return
        tokenizer, ids = self.run.tokenizer, view.ids
        begins_twice = ids[0] == tokenizer.bos_token_id and ids[1:2] == ids[:1]
        if begins_twice or (
            not self.run.model and record.whole.startswith(ADDED) and rendered_as(record.whole)
        ):
            yield hit(DOUBLE_BOS, record, record.whole, tokens_around(view, 0))
        if view.full_length == len(ids) and ids[-1] == tokenizer.eos_token_id:
            before = [token for token, text in zip(ids[:-1], view.text, strict=False) if text.strip()]
            if before and before[-1] == tokenizer.eos_token_id:
                yield hit(DOUBLE_EOS, record, record.whole[-100:], tokens_around(view, len(ids)))
        if record.text is not None and (found := rendered_as(record.text)):
            yield hit(PROMPT_IN_LOSS, record, f"{found.name} turns in text", tokens_around(view, 0))
        if not record.chat and record.prompt and self.tried < PROMPTS_TRIED and not all(view.trained):
            self.look_at_boundary(record, view)

    def look_at_boundary(self, record, view):
        """Count a row whose prompt, alone, has other tokens than it has before its completion."""
        if view.full_length > len(view.ids):
            return  # places are those of the row as it was cut
        self.tried += 1
        alone = self.run.tokenizer(record.prompt)["input_ids"]
        shared = view.trained.index(True) if any(view.trained) else len(alone)
        if shared < len(alone):
            self.merged += 1
            cut = "".join(decoded(self.run.tokenizer, alone[shared:]))
            self.example = self.example or f"{record.where}: the prompt ends with {cut!r}"

    def end(self):
        if self.merged >= max(1, SOME * self.tried):
            yield hit_whole(BOUNDARY, f"{self.merged} of {self.tried} prompts tried; {self.example}")


class Conversations(Check):
    """What the loss sees of conversations; told once, of the whole."""

    told = False

    def see_tokens(self, record, view):
        chat = record.text is None and record.completion_from is None and record.form == self.run.form
        if self.told or not chat or not view.ids or not all(view.trained) or record.faults:
            return
        if all(message.get("role") == "assistant" for message in record.messages):
            return
        self.told = True
        recipe = self.run.recipe
        if recipe is not None and recipe.get("completion_only_loss"):
            return  # which does nothing here: a check of the settings says so
        text = f"all {len(view.ids)} tokens of {record.where} are trained"
        yield Hit(PROMPT_BY_DEFAULT if recipe is None else PROMPT_IN_LOSS, whole(text, view))


class Contents(Check):
    """Control tokens and other formats' marks in what turns say."""

    def __init__(self, run):
        super().__init__(run)
        tokens = control_tokens(run.tokenizer) if run.tokenizer is not None else []
        self.control = re.compile("|".join(map(re.escape, tokens))) if tokens else None
        self.template = template_of(run.tokenizer) if run.tokenizer is not None else ""
        self.own = f"{self.template} {' '.join(tokens)}"

    def see(self, record):
        if record.faults:
            return
        if record.text is None and record.chat:
            yield from self.in_turns(record)
        elif self.run.model and self.template:  # whose format it should be is known only of a named model
            text = record.text if record.text is not None else record.prompt
            if (found := wrapped_in(text, self.own)) and not (record.text is None and "Alpaca" in found):
                yield hit(OTHER_TEMPLATE, record, f"{found}: {text}")

    def in_turns(self, record):
        """The first turn that holds such a thing."""
        for message in record.messages:
            content = content_of(message)
            if self.control and (found := self.control.search(content)):
                shown = content[max(0, found.start() - NEAR) : found.end() + NEAR]
                tokens = self.shown(shown, message.get("role") == "assistant")
                yield hit(
                    CONTROL_IN_CONTENT, record, f"{found[0]} in the {message.get('role')}'s turn", tokens
                )
                return
            if mark := wrapped_in(content, self.own):
                yield hit(OTHER_TEMPLATE, record, f"{mark} in the {message.get('role')}'s turn: {content}")
                return

    def shown(self, text: str, trained: bool):
        """A piece of a turn as tokens."""
        tokenizer = self.run.tokenizer
        text = text.encode("utf-8", "replace").decode()  # halves of surrogate pairs
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        return tuple((piece, trained) for piece in decoded(tokenizer, ids))


class Lengths(Check):
    """What max_length cuts off."""

    def __init__(self, run):
        super().__init__(run)
        self.cut = {ANSWER_CUT: 0, TEXT_CUT: 0}
        self.first = {}

    def see_tokens(self, record, view):
        cut = view.full_length - len(view.ids)
        if record.faults or (cut and not self.is_sure(record, view)):
            return
        if not any(view.trained):
            limit = setting(self.run.recipe, "max_length")
            text = f"{view.full_length} tokens, max_length {limit}" if cut else "no token is in the loss"
            yield hit(NOTHING_LEFT, record, text, tokens_around(view, len(view.ids)))
        elif cut and not self.keeps_the_end:
            rule = TEXT_CUT if record.text is not None else ANSWER_CUT
            self.cut[rule] += 1
            self.first.setdefault(rule, (f"{record.where} loses {cut} of {view.full_length} tokens", view))

    @property
    def keeps_the_end(self) -> bool:
        """Whether what is cut off is the beginning."""
        recipe = self.run.recipe
        return not setting(recipe, "packing") and setting(recipe, "truncation_mode") == "keep_end"

    def is_sure(self, record, view) -> bool:
        """Whether the row is too long for its own model too, whose tokens may be fewer than the course's."""
        ascii_only = len(record.whole.encode("ascii", "ignore"))
        others = len(record.whole) - ascii_only
        estimate = TOKENS_A_CHARACTER * others + TOKENS_A_LETTER * ascii_only
        return bool(self.run.model or not others) or estimate > len(view.ids)

    def end(self):
        for rule, count in self.cut.items():
            if count:
                seen, (text, view) = self.run.sampled, self.first[rule]
                percent, limit = number(100 * count / seen, 2), setting(self.run.recipe, "max_length")
                share = (
                    f"{count:,} of {seen:,} rows ({percent} %) are longer than max_length = {limit}; {text}"
                )
                few = count < SOME * seen
                yield Hit(FEW_CUT if few else rule, whole(share, view, len(view.ids)))


class Steps(Check):
    """How many optimizer steps packing leaves."""

    def end(self):
        run, recipe = self.run, self.run.recipe
        if (
            recipe is None
            or not recipe.get("packing")
            or not recipe.get("max_length")  # which TRL refuses: a check of the settings says so
            or not run.sampled
            or (recipe.get("max_steps") or 0) > 0
        ):
            return
        packed_rows = run.tokens * run.rows / run.sampled / recipe.get("max_length")
        epochs = recipe.get("num_train_epochs")
        packed, plain = (math.ceil(rows / recipe.batch * epochs) for rows in (packed_rows, run.rows))
        if FEWEST_STEPS <= packed < FEW_STEPS and plain >= 2 * packed:
            yield hit_whole(FEW_PACKED, f"about {packed} optimizer steps, {plain} without packing")


class Padding(Check):
    """EOS as padding, where the settings are a script's: its collator may mask it."""

    def end(self):
        tokenizer, recipe = self.run.tokenizer, self.run.recipe
        if tokenizer is None or recipe is None or recipe.of_trl:
            return
        if (recipe.get("pad_token") or tokenizer.pad_token or tokenizer.eos_token) == tokenizer.eos_token:
            yield hit_whole(PAD_IS_EOS, f"pad_token and eos_token are both {tokenizer.eos_token}")


CHECKS = (Strings, Conversations, Contents, Lengths, Steps, Padding)
