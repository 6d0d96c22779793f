"""Checks of who speaks when: turns, roles, tool calls."""

from __future__ import annotations

import json
import re

from labsupport.findings.check import Check
from labsupport.findings.finding import Rule, hit
from labsupport.row_files.json_rows import what_is
from labsupport.training_data.record import content_of

UNREADABLE = Rule(
    "unreadable-row",
    "error",
    "The trainer stops at a row that it cannot read, or feeds the model something else than you meant.",
    "Correct the row or remove it.",
)
MIXED = Rule(
    "mixed-forms",
    "error",
    "The trainer takes the first row's form for all: it stops at a row of another form, or misreads it.",
    "Bring all rows into one form.",
)
EMPTY = Rule(
    "empty-turn",
    "error",
    "An empty answer teaches the model to say nothing; an empty question teaches it to answer at random.",
    "Remove the rows, or find out where the text was lost.",
)
NO_ANSWER = Rule(
    "no-answer",
    "error",
    "Without a turn of the assistant there is nothing in the row to learn.",
    "Remove the rows, or add the answers.",
)
ENDS_ASKING = Rule(
    "answer-not-last",
    "warning",
    "What follows the last answer teaches nothing, or, where all tokens are trained, to speak for the user.",
    "Cut each conversation off after its last answer.",
)
BEGINS_ANSWERING = Rule(
    "answer-first",
    "warning",
    "The model learns to give an answer to nothing; often the first question was lost on the way.",
    "Restore the question, or start the conversation at the first question.",
)
OUT_OF_ORDER = Rule(
    "turns-not-alternating",
    "warning",
    "Chats of the trained model alternate, so two turns in a row of one side are a form it will never meet; "
    "some templates refuse them.",
    "Join the turns into one, or restore the turn between them.",
)
UNKNOWN_ROLE = Rule(
    "unknown-role",
    "error",
    "A template writes a role that it does not know as it stands, or drops the turn, or refuses the row.",
    "Rename the roles to system, user, assistant and tool.",
)
LATE_SYSTEM = Rule(
    "system-not-first",
    "warning",
    "Templates have a place for one system message, before the first turn; others they refuse or drop.",
    "Put what it says into one system message at the start, or into the user's turn.",
)
NO_RESULT = Rule(
    "tool-call-without-result",
    "warning",
    "The model learns to go on as if a tool had answered: to make the result up.",
    "Add the tool's message after the call, or end the conversation with the call.",
)
NO_CALL = Rule(
    "tool-result-without-call",
    "warning",
    "The model learns from a result whose call it never made, so it will not call the tool itself.",
    "Add the assistant's turn with tool_calls before the result.",
)
TRANSCRIPT = Rule(
    "dialogue-in-turn",
    "warning",
    "Several turns typed into one: the model learns to write the user's side too, in a form it never meets.",
    "Split the text at the names into messages of user and assistant.",
)
RULES = (
    UNREADABLE, MIXED, EMPTY, NO_ANSWER, ENDS_ASKING, BEGINS_ANSWERING, OUT_OF_ORDER, UNKNOWN_ROLE,
    LATE_SYSTEM, NO_RESULT, NO_CALL, TRANSCRIPT,
)  # fmt: skip

SYSTEM = {"system", "developer"}
TOOL = {"tool", "function", "ipython", "observation"}
ROLES = {"user", "assistant"} | SYSTEM | TOOL
# An assistant's text that calls a tool in words, in one of many ways: lenient on purpose.
CALLS_IN_WORDS = re.compile(r"[{(<\[]|\b(?:call|action|tool|function|search)", re.IGNORECASE)
USER_NAMED = re.compile(r"^[ *#]*(?:User|Human)[ *]*:", re.MULTILINE)
ASSISTANT_NAMED = re.compile(r"^[ *#]*(?:Assistant|AI|Bot|GPT|ChatGPT)[ *]*:", re.MULTILINE)
LEFT_OPEN = re.compile(r"^(?:Assistant|AI|Bot|GPT|ChatGPT):\s*\Z", re.MULTILINE)
ASKED_FOR = re.compile(
    r"dialog|conversation|transcript|script|\bchat|\bbots?\b|assistant|role.?play|interview", re.IGNORECASE
)


class Form(Check):
    """Rows that could not be read, and rows of another form than the first."""

    def __init__(self, run):
        super().__init__(run)
        self.first, self.has_arguments = None, False

    def see(self, record):
        if record.faults:
            yield hit(UNREADABLE, record, "; ".join(record.faults))
            return
        if record.text is None and record.chat and (said := self.refused_columns(record.raw)):
            yield hit(UNREADABLE, record, said)
        form = (record.form, record.chat)
        self.first = self.first or form
        if form != self.first:
            yield hit(MIXED, record, f"{in_words(form)}, where the first row is {in_words(self.first)}")

    def refused_columns(self, raw: dict) -> str:
        """What TRL stops at in the columns beside the messages that it hands to the template; "" if nothing.
        A column that other rows have is null in the rows without it."""
        arguments = raw.get("chat_template_kwargs")
        self.has_arguments = self.has_arguments or isinstance(arguments, dict)
        if not isinstance(arguments, dict) and ("chat_template_kwargs" in raw or self.has_arguments):
            return f"chat_template_kwargs is {what_is(arguments)}: write {{}} where a row has none"
        tools = raw.get("tools")
        try:
            json.loads(tools if isinstance(tools, str) else "[]")
        except ValueError:
            return f"tools is {tools[:40]!r} and no JSON: write [] where a row has none"
        return ""


def in_words(form: tuple[str, bool]) -> str:
    """The form of a row."""
    name, chat = form
    return name.replace("_", " + ") + ("" if chat else " as bare strings")


class Turns(Check):
    """Who speaks, and in which order."""

    def see(self, record):
        if record.faults:
            return
        if record.text is not None:
            if not record.text.strip():
                yield hit(EMPTY, record, "the text is empty")
            return
        roles = [message.get("role") for message in record.messages]
        yield from empty_turns(record)
        yield from order_of(record, roles)


def empty_turns(record):
    """Turns of user or assistant that say nothing. A prompt may be an empty string where it is no chat."""
    for message in record.messages:
        role = message.get("role")
        if role not in ("user", "assistant") or calls_of(message) or content_of(message).strip():
            continue
        if record.chat or role == "assistant":
            yield hit(EMPTY, record, f"the {role}'s turn is empty")


def order_of(record, roles: list[str]):
    """What is wrong with the order of the roles; the first place of each kind."""
    if unknown := [role for role in roles if role not in ROLES]:
        yield hit(UNKNOWN_ROLE, record, f"role {unknown[0]!r}")
        return
    turns = [role for role in roles if role not in SYSTEM]
    if "assistant" not in turns:
        yield hit(NO_ANSWER, record, f"roles: {', '.join(roles) or 'none'}")
        return
    if turns[-1] != "assistant":
        yield hit(
            ENDS_ASKING, record, f"the last turn is the {turns[-1]}'s: {record.messages[-1].get('content')}"
        )
    if turns[0] == "assistant":
        yield hit(BEGINS_ANSWERING, record, f"the first turn is the assistant's: {record.answers[0]}")
    if any(role in SYSTEM for role in roles[1:]):
        late = next(place for place, role in enumerate(roles) if place and role in SYSTEM)
        yield hit(LATE_SYSTEM, record, f"message {late + 1} of {len(roles)} is a system message")
    calls = [bool(calls_of(m)) for m in record.messages if m.get("role") not in SYSTEM]
    for place, (one, next_one) in enumerate(zip(turns, turns[1:], strict=False), start=1):
        if one == next_one and one in ("user", "assistant") and not calls[place - 1]:  # that Tools tells
            yield hit(OUT_OF_ORDER, record, f"turns {place} and {place + 1} are both the {one}'s")
            break


class Tools(Check):
    """Calls of tools and their results."""

    def see(self, record):
        if record.faults:
            return
        for place, message in enumerate(record.messages):
            role = message.get("role")
            if role in TOOL and not called(record.messages, place):
                yield hit(NO_CALL, record, f"message {place + 1} is a tool's: {content_of(message)}")
                return
            if role == "assistant" and (missing := unanswered(record.messages, place)):
                yield hit(NO_RESULT, record, missing)
                return


def calls_of(message: dict):
    """The calls of tools in a message, in OpenAI's form or its older one."""
    return message.get("tool_calls") or message.get("function_call")


def called(messages: list[dict], place: int) -> bool:
    """Whether the turn before the tools' results calls a tool, as tool_calls or in words."""
    while place >= 0 and messages[place].get("role") in TOOL:
        place -= 1
    before = messages[place] if place >= 0 else {}
    if before.get("role") != "assistant":
        return False
    return bool(calls_of(before) or CALLS_IN_WORDS.search(content_of(before)))


def unanswered(messages: list[dict], place: int) -> str:
    """What call of this message got no result before the conversation goes on; "" for none."""
    calls = calls_of(messages[place])
    if not calls or place + 1 == len(messages):
        return ""
    results = []
    for message in messages[place + 1 :]:
        if message.get("role") not in TOOL:
            break
        results.append(message.get("tool_call_id"))
    if not results:
        follows = messages[place + 1].get("role")
        return f"message {place + 1} calls a tool, message {place + 2} is the {follows}'s"
    if not isinstance(calls, list) or None in results:
        return ""  # results without ids: one message may hold several
    ids = [call.get("id") for call in calls if isinstance(call, dict)]
    lacking = [one for one in ids if one and one not in results]
    return f"the call {lacking[0]} of message {place + 1} has no result" if lacking else ""


class Transcripts(Check):
    """A whole dialogue typed into one turn, with names before what is said."""

    def see(self, record):
        if record.faults or record.text is not None or not record.chat:
            return
        asked = ""
        for message in record.messages:
            content = content_of(message)
            if ":" in content and is_transcript(message.get("role"), content, asked):
                yield hit(TRANSCRIPT, record, content)
                return
            asked = content


def is_transcript(role: str, content: str, asked: str) -> bool:
    """The user's turn ends with "Assistant:", or the assistant's goes on with the user's side, unasked."""
    if role == "user":
        return bool(LEFT_OPEN.search(content) and USER_NAMED.search(content))
    both = USER_NAMED.search(content) and ASSISTANT_NAMED.search(content)
    return bool(role == "assistant" and both and not ASKED_FOR.search(asked))


CHECKS = (Form, Turns, Tools, Transcripts)
