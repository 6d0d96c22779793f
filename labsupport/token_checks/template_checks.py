"""Checks of the chat template: whether there is one, what it does to the rows, where it ends a turn."""

from __future__ import annotations

import copy
import functools
import json
import re
from pathlib import Path

from labsupport.findings.check import Check
from labsupport.findings.finding import Hit, Rule, hit, hit_whole
from labsupport.token_checks.chat_markers import (
    SPEAKS,
    control_tokens,
    rendered_as,
    template_of,
    whole,
    wrapped_in,
)
from labsupport.token_checks.trainer_view import extras, training_template
from labsupport.training_data.messages import THOUGHTS
from labsupport.training_data.record import content_of

NO_TEMPLATE = Rule(
    "no-chat-template",
    "error",
    "The rows are conversations and the tokenizer, like a base model's, has no chat template: the run stops.",
    "Take the instruct model, or set chat_template_path, or write prompt and completion as strings.",
)
REFUSED = Rule(
    "template-refuses-row",
    "error",
    "The model's chat template raises an error at the row, and the trainer stops.",
    "Bring the roles into the order that the template asks for.",
)
SYSTEM_DROPPED = Rule(
    "system-dropped",
    "warning",
    "The template leaves the system message out of the row, so the model is trained without it.",
    "Put the system message's text before the first user's.",
)
THINKING_DROPPED = Rule(
    "thinking-dropped",
    "warning",
    "The template leaves out the thoughts of the last answer: the model learns to answer without thinking.",
    "Write the thoughts where the template looks for them, or take them out of the data.",
)
EARLIER_THINKING = Rule(
    "earlier-thinking-dropped",
    "note",
    "The template leaves out the thoughts of earlier answers; these are trained without thoughts.",
    "To train every answer with its thoughts, make each the last one of a row of its own.",
)
ENCODED_TWICE = Rule(
    "tool-arguments-encoded-twice",
    "error",
    "The arguments of a call are JSON in a text, and the template writes that text as JSON once more: the "
    "model learns calls whose arguments are read back as a text and no object.",
    'Give objects: json.loads(arguments). Their keys stay apart in a dataset with on_mixed_types="use_json".',
)
MISSING_BOS = Rule(
    "missing-bos",
    "warning",
    "The tokenizer begins every text with BOS, as the model was trained; the template does not write it.",
    "Begin the template with {{ bos_token }}.",
)
END_NOT_TRAINED = Rule(
    "end-not-trained",
    "error",
    "No token that ends the answer is in the loss, so the model never learns to stop.",
    "Take a template that writes the end token after each answer, inside its {% generation %} markers.",
)
END_IS_NOT_EOS = Rule(
    "end-of-turn-not-eos",
    "warning",
    "Answers end with another token than the tokenizer's EOS, so generation, which stops at EOS, may run on.",
    "Set eos_token in the settings to the template's end of turn, and so generation_config.eos_token_id.",
)
TEMPLATE_SKIPPED = Rule(
    "template-skipped",
    "warning",
    "Bare strings go to the model without its chat template, in a form that its chats never have.",
    "Write prompt and completion as messages; only a base model takes strings as they are.",
)
BARE_STRINGS = Rule(
    "bare-strings",
    "note",
    "The trainer uses no chat template on bare strings: right for a base model, wrong for a chat model.",
    "For a chat model write prompt and completion as messages; --model says which model it is.",
)
RULES = (
    NO_TEMPLATE, REFUSED, SYSTEM_DROPPED, THINKING_DROPPED, EARLIER_THINKING, ENCODED_TWICE,
    MISSING_BOS, END_NOT_TRAINED, END_IS_NOT_EOS, TEMPLATE_SKIPPED, BARE_STRINGS,
)  # fmt: skip

KINDS = 2_000  # sequences of roles whose rendering is remembered; a template's refusals hang on them
MARK = '{"mnvw": "kqzx"}'  # arguments that stand so in no row
THOUGHT = re.compile(r"<think>\s*(\S.*?)\s*</think>", re.DOTALL)
# Ends of turn of published models whose EOS is another, and whose generation_config stops at both.
STOPS_TOO = {"<end_of_turn>", "<|end|>", "<turn|>"}


class Rendering(Check):
    """Whether the template takes the conversations, and what it leaves out."""

    def __init__(self, run):
        super().__init__(run)
        self.known, self.told, self.left_out = {}, False, 0

    def see(self, record):
        if self.run.tokenizer is None or record.text is not None or not record.chat or record.faults:
            return
        if not template_of(self.run.tokenizer):
            if not self.told:
                yield hit_whole(NO_TEMPLATE, f"{self.run.model or 'the tokenizer'} has no chat template")
            self.told = True
            return
        found = self.found_in(record)
        if found and found[0] is REFUSED and not self.run.model and uses_tools(record):
            self.left_out += 1  # the course's template knows no tools, and it is not theirs
        elif found:
            yield hit(found[0], record, found[1])
        elif rule := self.thoughts_lost(record):
            yield hit(rule, record, record.answers[-1] or str(record.messages[-1]))

    def end(self):
        if self.left_out:
            rows = f"{self.left_out:,} row{'s' * (self.left_out > 1)}"
            self.run.notes.append(
                f"Not looked at as the trainer sees them: {rows} with tools, for which each model has a form "
                "of its own. Give --model."
            )
        return ()

    def found_in(self, record):
        """`look`, once for rows of the same roles. Calls of tools, arguments of the row's own and what was
        found before hang on more than the roles, and each such row is looked at."""
        kind = tuple((m.get("role"), bool(content_of(m))) for m in record.messages)
        if uses_tools(record) or extras(record) or self.known.get(kind):
            return self.look(record)
        if kind not in self.known and len(self.known) < KINDS:
            self.known[kind] = self.look(record)
        return self.known.get(kind)

    def look(self, record):
        """What becomes of a row of these roles: None if all is well, else the rule and what to say."""
        try:
            text = self.rendered(record)
        except Exception as error:  # whatever the template raises
            roles = ", ".join(str(message.get("role")) for message in record.messages)
            return REFUSED, f"{str(error).strip() or type(error).__name__} (roles: {roles})"
        for message in record.messages:
            said = content_of(message).strip()
            if message.get("role") == "system" and said and said not in text:
                return SYSTEM_DROPPED, said
        return self.encoded_twice(record)

    def encoded_twice(self, record):
        """ENCODED_TWICE and the arguments, if the template writes a text of JSON as JSON. Told from arguments
        of our own: theirs might stand in quotation marks elsewhere in the row."""
        given = [function["arguments"] for function in called_with_text(record.messages)]
        if not any(map(is_json_object, given)):
            return None
        messages = copy.deepcopy(record.messages)
        for function in called_with_text(messages):
            function["arguments"] = MARK
        twice = json_of(MARK) in self.rendered(record, messages)
        return (ENCODED_TWICE, json_of(next(filter(is_json_object, given)))) if twice else None

    def rendered(self, record, messages: list[dict] | None = None) -> str:
        """The row as the template writes it; with other messages, if they are given."""
        given = {"chat_template": self.template} | extras(record)
        messages = record.messages if messages is None else messages
        return self.run.tokenizer.apply_chat_template(messages, tokenize=False, **given)

    @functools.cached_property
    def template(self) -> str | None:
        """The template that the trainer swaps in; None for the tokenizer's own."""
        try:
            return training_template(self.run.tokenizer, self.run.recipe)
        except ValueError:  # TRL stops: a check of the settings says so
            return None

    def thoughts_lost(self, record) -> Rule | None:
        """The rule that is broken where a thought of the row is not in what the template writes."""
        thoughts = [(m, thought) for m in record.messages for thought in thoughts_of(m)]
        if not thoughts:
            return None
        try:
            text = self.rendered(record)
        except Exception:  # a refusal, told elsewhere
            return None
        lost = [message for message, thought in thoughts if thought not in text]
        last = [m for m in record.messages if m.get("role") == "assistant"][-1]
        return (THINKING_DROPPED if any(m is last for m in lost) else EARLIER_THINKING) if lost else None


def uses_tools(record) -> bool:
    """Whether somebody calls a tool in the row."""
    return any(m.get("tool_calls") or m.get("function_call") for m in record.messages)


def called_with_text(messages: list[dict]) -> list[dict]:
    """The functions of calls whose arguments are a text, as the API of OpenAI returns them, and no object."""
    found = []
    for message in messages:
        calls = message.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            function = call.get("function", call) if isinstance(call, dict) else None
            if isinstance(function, dict) and isinstance(function.get("arguments"), str):
                found.append(function)
    return found


def is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def json_of(text: str) -> str:
    """A text as a template's tojson writes it."""
    return json.dumps(text, ensure_ascii=False)


def thoughts_of(message: dict) -> list[str]:
    """An assistant's thoughts, between think tags or in a field of their own."""
    if message.get("role") != "assistant":
        return []
    fields = [message.get(name) for name in THOUGHTS]
    written = THOUGHT.findall(content_of(message)) if "<think>" in content_of(message) else []
    return written + [field.strip() for field in fields if isinstance(field, str) and field.strip()]


class Ends(Check):
    """What conversations begin and end with; each finding is told once, of the whole."""

    def __init__(self, run):
        super().__init__(run)
        self.told = set()
        if run.tokenizer is not None:
            begun = run.tokenizer("a")["input_ids"]
            self.bos = run.tokenizer.bos_token_id if begun[:1] == [run.tokenizer.bos_token_id] else None
            tokens = run.tokenizer.added_tokens_decoder
            self.special = {number for number, token in tokens.items() if token.special}
            self.stops = {run.tokenizer.eos_token_id, *stops_of(run.tokenizer)}

    def see_tokens(self, record, view):
        whole_row = view.full_length == len(view.ids) and any(view.trained)
        if record.text is not None or not record.chat or not whole_row or record.faults:
            return
        if self.bos is not None and view.ids[0] != self.bos:
            yield from self.tell(MISSING_BOS, f"rows begin with {view.text[0]!r}", view, 0)
        if record.messages[-1].get("role") == "assistant":
            yield from self.ending(view)

    def ending(self, view):
        """What is wrong with the token that ends the answer, the row's last one but for blanks."""
        place = max((i for i, text in enumerate(view.text) if text.strip()), default=0)
        token, text = view.ids[place], view.text[place]
        if token not in self.special:
            yield from self.tell(END_NOT_TRAINED, "the template writes no end token", view, place)
        elif not view.trained[place]:
            yield from self.tell(END_NOT_TRAINED, f"{text} is not in the loss", view, place)
        elif token not in self.stops and text not in STOPS_TOO:
            eos = self.run.tokenizer.eos_token
            yield from self.tell(END_IS_NOT_EOS, f"answers end with {text}, EOS is {eos}", view, place)

    def tell(self, rule, text, view, place):
        """A hit, the first time."""
        if rule.id not in self.told:
            self.told.add(rule.id)
            yield Hit(rule, whole(text, view, place))


def stops_of(tokenizer) -> list[int]:
    """The ids at which the model's generation_config.json stops, where it lies beside the tokenizer."""
    try:
        found = json.loads((Path(tokenizer.name_or_path) / "generation_config.json").read_text("utf-8"))
        stops = found.get("eos_token_id")
    except (OSError, ValueError, AttributeError):
        return []
    return stops if isinstance(stops, list) else [stops]


class Strings(Check):
    """Bare strings where the tokenizer has a template."""

    def __init__(self, run):
        super().__init__(run)
        self.bare = ""
        self.own = control_tokens(run.tokenizer) if run.tokenizer is not None else []

    def see(self, record):
        if record.chat or record.faults or self.bare or self.run.tokenizer is None:
            return ()
        rendered = any(token in record.prompt for token in self.own) or wrapped_in(record.prompt, "")
        alpaca = rendered_as(f"{record.prompt}\n{''.join(record.answers)}")
        if not rendered or (alpaca and alpaca.name == "Alpaca"):
            self.bare = f"{record.where}: {record.prompt}"
        return ()

    def end(self):
        if self.bare and template_of(self.run.tokenizer):
            yield hit_whole(TEMPLATE_SKIPPED if may_speak(self.run.model) else BARE_STRINGS, self.bare)


def may_speak(model: str | None) -> bool:
    """Whether it may be a chat model: a folder may, and a name on the hub that says so. Base models, too,
    bring templates."""
    if not model or "/" not in model or Path(model).is_dir():
        return bool(model)
    return SPEAKS.search(model.rpartition("/")[2].lower()) is not None


CHECKS = (Rendering, Ends, Strings)
