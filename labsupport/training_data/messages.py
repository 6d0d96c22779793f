"""Messages as they stand in files: keys of several names, contents in parts, lists written as texts."""

from __future__ import annotations

import ast
import json
import warnings

from labsupport.row_files.json_rows import is_deep, what_is

MESSAGE_COLUMNS = ("messages", "conversations", "conversation", "dialogue", "dialog", "chat", "turns")
ROLE_KEYS, CONTENT_KEYS = ("role", "from", "speaker"), ("content", "value", "text")
# What other programs call the roles that templates know.
ROLES = {
    "human": "user", "prompter": "user", "customer": "user", "client": "user",
    "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "chatbot": "assistant",
    "model": "assistant", "ai": "assistant", "agent": "assistant",
    "function_call": "assistant", "function-call": "assistant", "observation": "tool",
    "function_response": "tool", "function-response": "tool", "system_prompt": "system",
}  # fmt: skip
THOUGHTS = ("reasoning_content", "reasoning", "thinking")  # where messages keep what was thought
LONGEST_LITERAL = 2**20  # characters of a list in Python's notation; parsing takes a hundred times as much
FAULTS = 5  # of a row that are told


def role_named(role: str) -> str:
    """The role that templates know for a name; the name itself where there is none."""
    plain = role.strip().lower()
    return ROLES.get(plain, plain)


def parsed(value):
    """The list that a cell of a table holds as a text, in JSON or Python's notation, or the value itself."""
    if not isinstance(value, str) or value.lstrip()[:1] != "[":
        return value
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        if len(value) > LONGEST_LITERAL:
            return value
        try:
            with warnings.catch_warnings(action="ignore"):  # of backslashes in strings
                found = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            return value
    return found if isinstance(found, list) and not is_deep(found) else value


def is_messages(value) -> str | None:
    """Which key names the role, if this is a list of messages or a text of one; else None."""
    items = parsed(value)
    if not isinstance(items, list) or not items or not isinstance(items[0], dict):
        return None
    first = items[0]
    if not any(key in first for key in (*CONTENT_KEYS, "tool_calls")):
        return None
    return next((key for key in ROLE_KEYS if key in first), None)


def read_messages(value, column: str, faults: list[str], renames: bool = False) -> list[dict]:
    """Messages with "role" and "content" (str). What is wrong with them is added to the faults, never raised.

    renames: whether roles get the names that templates know.
    """
    items = value if isinstance(value, list) else parsed(value)
    if not isinstance(items, list):
        faults.append(f"{column} is {what_is(value)} and no list of messages")
        return []
    if not items:
        faults.append(f"{column} is an empty list")
        return []
    found, wrong = [], []
    for place, item in enumerate(items, start=1):
        message, said = read_message(item, renames)
        found.append(message)
        if said:
            wrong.append(f"message {place} of {column} {said}")
    faults.extend(wrong[:FAULTS])
    return found


def read_message(item, renames: bool) -> tuple[dict, str]:
    """A message, and what is wrong with it ("" for nothing)."""
    if not isinstance(item, dict):
        return {"role": "", "content": as_text(item)}, f"is {what_is(item)} and no object"
    role, content = item.get("role"), item.get("content")
    if not renames and isinstance(role, str) and isinstance(content, str) and None not in item.values():
        return item, ""
    keys = [next((key for key in names if key in item), names[0]) for names in (ROLE_KEYS, CONTENT_KEYS)]
    if not renames:
        keys = ["role", "content"]
    role, content = (item.get(key) for key in keys)
    rest = {key: one for key, one in item.items() if key not in keys and one is not None}
    said = ""
    if not isinstance(role, str):
        said = f"has {keys[0]} {what_is(role)} and no text" if keys[0] in item else f"has no {keys[0]}"
        role = ""
    if renames:
        role = role_named(role)
    if content is None and (rest.get("tool_calls") or rest.get("function_call")):
        return {"role": role, **rest}, said
    text, wrong = read_content(content, keys[1], keys[1] in item)
    return {"role": role, "content": text, **rest}, said or wrong


def read_content(content, key: str, there: bool) -> tuple[str, str]:
    """The content as one text, and what is wrong with it."""
    if isinstance(content, str):
        return content, ""
    if isinstance(content, list) and content:
        texts = [part if isinstance(part, str) else part_text(part) for part in content]
        if None not in texts:
            return "".join(texts), ""
        part = content[texts.index(None)]
        kind = part.get("type") if isinstance(part, dict) else what_is(part)
        return "".join(filter(None, texts)), f"has a part that is no text ({str(kind)[:40]})"
    return as_text(content), f"has {key} {what_is(content)} and no text" if there else f"has no {key}"


def part_text(part) -> str | None:
    """The text of a part of a content, under LLaMA-Factory's name too; None for an image and the like."""
    if not isinstance(part, dict) or part.get("type", "text") != "text":
        return None
    text = part.get("text", part.get("value"))
    return text if isinstance(text, str) else None


def as_text(value) -> str:
    """What can be made of a value that should be a text; "" for null."""
    if isinstance(value, str):
        return value
    if value is None or value != value:
        return ""
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        return str(type(value))
