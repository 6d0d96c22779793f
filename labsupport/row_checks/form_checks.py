"""Checks of a file's columns: forms that TRL does not read, and columns that it takes for something else."""

from __future__ import annotations

from labsupport.findings.check import Check
from labsupport.findings.finding import Rule, hit
from labsupport.training_data.forms import SYSTEMS, has_parts, is_missing, normal, shown
from labsupport.training_data.messages import is_messages, role_named

CONVERTED = Rule(
    "form-not-of-trl",
    "note",
    "TRL's trainer does not know these columns or roles, so it stops, or trains on something else.",
    "Train on what --fix writes, or rename and convert the columns yourself.",
)
AS_TEXT = Rule(
    "messages-as-text",
    "error",
    "The trainer takes a list that is written as a text for plain text: no template, no turns.",
    "Parse the column into lists of messages; --fix does.",
)
HIDING = Rule(
    "prompt-hides-the-rest",
    "error",
    "TRL looks for `prompt` before it looks for messages or text, and stops where there is no `completion`.",
    "Remove or rename the column `prompt`.",
)
TAKING_THE_END = Rule(
    "text-takes-the-end",
    "error",
    "TRL then puts the end token behind `text`, and the completions that it trains on have none.",
    "Remove or rename the column `text`.",
)
PARTS = Rule(
    "content-in-parts",
    "error",
    "Templates of text models want one text a turn: given a list of parts, they stop, leave the turn empty "
    "or write the list as it stands.",
    "Join the parts into one text; --fix does.",
)
RULES = (CONVERTED, AS_TEXT, HIDING, TAKING_THE_END, PARTS)


class Columns(Check):
    """The columns of the rows. Each fault is told once, at its first row: files have one set of columns."""

    def __init__(self, run):
        super().__init__(run)
        self.told = set()

    def see(self, record):
        if record.faults or not isinstance(record.raw, dict):
            return
        for rule in faults_of_columns(record, self.run.recipe):
            if rule is PARTS and takes_parts(self.run.tokenizer):
                continue
            if rule not in self.told:
                self.told.add(rule)
                yield hit(rule, record, f"columns: {', '.join(map(shown, record.raw))}")


def faults_of_columns(record, recipe):
    """The rules that a row's columns break."""
    raw = record.raw
    converted = record.form == "alpaca" or is_renamed(record)
    if converted or (record.form == "sharegpt" and not trl_reads(raw, recipe)):
        yield CONVERTED
    if record.text is None and any(is_text_of_messages(value) for value in raw.values()):
        yield AS_TEXT
    if "prompt" in raw and record.form in ("messages", "text"):
        yield HIDING
    if record.form == "prompt_completion" and not record.chat and isinstance(raw.get("text"), str):
        yield TAKING_THE_END
    if record.form in ("messages", "prompt_completion") and any(map(has_parts, raw.values())):
        yield PARTS


def takes_parts(tokenizer) -> bool:
    """Whether the chat template writes the text of a list of parts: those of models that see images do."""
    said = "mnvw"  # letters that stand so in no template
    try:
        turn = {"role": "user", "content": [{"type": "text", "text": said}]}
        written = tokenizer.apply_chat_template([turn], tokenize=False)
    except Exception:  # no tokenizer, no template, or whatever the template raises
        return False
    return said in written and f"'{said}'" not in written


def trl_reads(raw: dict, recipe) -> bool:
    """Whether TRL makes the right messages of a ShareGPT row. It renames `conversations`, from and value, but
    no roles such as human and gpt, and leaves out a system prompt in a column beside them (TRL 1.16,
    data_utils.maybe_convert_to_chatml). With a prompt beside them or assistant_only_loss it stops."""
    turns = raw.get("conversations")
    with_system = any(normal(key) in SYSTEMS and raw[key] and not is_missing(raw[key]) for key in raw)
    stops = "prompt" in raw or (recipe is not None and recipe.get("assistant_only_loss"))
    if not isinstance(turns, list) or with_system or stops:
        return False
    return all(is_plain_turn(turn) for turn in turns)


def is_plain_turn(turn: dict) -> bool:
    """Whether a message of ShareGPT has a text and the name of a role that templates know."""
    role, text = turn.get("from"), turn.get("value")
    return isinstance(role, str) and role == role_named(role) and isinstance(text, str)


def is_renamed(record) -> bool:
    """Whether prompt and completion have other names in the file."""
    return record.form == "prompt_completion" and not {"prompt", "completion"} <= record.raw.keys()


def is_text_of_messages(value) -> bool:
    """Whether a cell holds messages, written as a text."""
    return isinstance(value, str) and is_messages(value) is not None


CHECKS = (Columns,)
