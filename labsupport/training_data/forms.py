"""Which form the rows of a file have, and a row of that form as a Record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from labsupport.core.files import LabError, nearest_first
from labsupport.row_files.json_rows import what_is
from labsupport.training_data.messages import (
    CONTENT_KEYS,
    MESSAGE_COLUMNS,
    ROLE_KEYS,
    as_text,
    is_messages,
    parsed,
    read_messages,
)
from labsupport.training_data.record import Record

# Names that people give to question and answer, the plain ones first: beside one of these, "source" or
# "customer" more likely says where the row comes from. One name a side can mean only one thing.
PROMPTS = (
    {"prompt", "question", "query", "instruction", "problem"},
    {"input", "user", "human", "customer", "source", "request", "inquiry", "ticket", "message", "utterance",
     "dialogue", "article", "document"},
)  # fmt: skip
COMPLETIONS = (
    {"completion", "answer", "response", "output", "solution"},
    {"assistant", "bot", "agent", "target", "reply", "summary"},
)
ASKING = {"user", "human", "customer", "client"}  # in front of SAID: customer_message
ANSWERING = {"assistant", "bot", "agent", "support", "model", "ai", "chatbot", "gpt"}
SAID = {"message", "text", "query", "question", "input", "request", "response", "reply", "answer", "output"}
SYSTEMS = ("system", "system_prompt")
LABELS = {"label", "labels", "category", "class", "intent", "sentiment"}  # beside a text: of what it is
BESIDE = {"tools", "chat_template_kwargs"}  # columns that TRL hands to the chat template
PREFERENCES = {"prompt", "chosen", "rejected"}
MAP_THEM = "name the columns with --prompt-column and --completion-column"


@dataclass(frozen=True)
class Form:
    """The form of a file's rows. name: one of record.FORMS. columns: what a row is made of -> its column:
    "messages"; "prompt" and "completion"; "instruction", "input" and "output"; "text"; and perhaps "system".
    renamed: prompt and completion have other names in the file, so that TRL does not find them as they stand.
    said: sentences on how the rows are read, for people."""

    name: str
    columns: dict[str, str]
    renamed: bool = False
    said: tuple[str, ...] = field(default=(), compare=False)


def find_form(
    raws: Iterable[dict],
    prompt_column: str | None = None,
    completion_column: str | None = None,
    name: str = "The data",
    text_field: str | None = None,
) -> Form:
    """The form that most of these rows (a file's first) have, or the one with the two columns that are named.

    name: of the file, for messages. text_field: the column that the settings' dataset_text_field names; TRL
    trains on it where the rows are neither messages nor prompt and completion. Raises LabError where no form
    is recognised, where more than one could be meant, and where a named column is missing.
    """
    raws = list(raws)
    if prompt_column or completion_column:
        return named_form(raws, prompt_column, completion_column, name)
    first = next((raw for raw in raws if isinstance(raw.get(text_field), str)), None)
    if first is not None and text_field != "text" and not any(map(is_for_trl, raws)):
        form = Form("text", {"text": text_field})
        return replace(form, said=tuple(said_of(form, first)))
    found = [(form, raw) for raw in raws if (form := form_of(raw))]
    if not found:
        raise unknown_form(raws, name)
    counts = Counter((form.name, tuple(form.columns.items())) for form, _ in found)
    best = counts.most_common(1)[0][0]
    form, raw = next((f, r) for f, r in found if (f.name, tuple(f.columns.items())) == best)
    return replace(form, said=tuple(said_of(form, raw)))


def is_for_trl(raw: dict) -> bool:
    """Whether TRL takes the row for a conversation or a prompt with its completion, as it stands."""
    form = form_of(raw)
    return form is not None and form.name in ("messages", "prompt_completion") and not form.renamed


def named_form(raws: list[dict], prompt: str | None, completion: str | None, name: str) -> Form:
    """The form with the columns that the user named."""
    if not (prompt and completion):
        raise LabError("Give both --prompt-column and --completion-column, or neither.")
    columns = {key: None for raw in raws for key in raw}
    for column in (prompt, completion):
        if column not in columns:
            near = nearest_first(column, [shown(key) for key in columns][:50])
            raise LabError(f"{name} has no column {column!r}. It has, the nearest first: {near}.")
    if prompt == completion:
        raise LabError(f"--prompt-column and --completion-column are both {prompt!r}: name two columns.")
    form = Form(
        "prompt_completion",
        {"prompt": prompt, "completion": completion},
        (prompt, completion) != ("prompt", "completion"),
    )
    return replace(form, said=tuple(said_of(form, raws[0])))


def form_of(raw: dict) -> Form | None:
    """The form of a row: what TRL would take it for, else what it can be converted from. None if unknown."""
    names: dict[str, str] = {}
    for key, value in raw.items():
        if not is_missing(value):
            names.setdefault(normal(key), key)
    system = next(({"system": names[one]} for one in SYSTEMS if one in names), {})
    if "prompt" in names and "completion" in names:
        columns = {"prompt": names["prompt"], "completion": names["completion"]}
        return Form("prompt_completion", columns, tuple(columns.values()) != ("prompt", "completion"))
    for column in [*(names[one] for one in MESSAGE_COLUMNS if one in names), *names.values()]:
        if normal(column) not in PREFERENCES and (style := is_messages(raw[column])):
            if column == "messages" and style == "role":
                return Form("messages", {"messages": column})
            return Form("sharegpt", {"messages": column, **system})
    if isinstance(raw.get("text"), str):
        return Form("text", {"text": "text"})
    if "instruction" in names and (output := names.get("output") or names.get("response")):
        given = next(({"input": names[one]} for one in ("input", "context") if one in names), {})
        return Form("alpaca", {"instruction": names["instruction"], **given, "output": output, **system})
    prompt, completion = the_one(names, PROMPTS, ASKING), the_one(names, COMPLETIONS, ANSWERING)
    if prompt and completion and all(isinstance(raw[one], str | int | float) for one in (prompt, completion)):
        about = next((one for one in raw if normal(one) == "context" and is_text(raw[one])), None)
        given = {"input": about} if about else {}
        columns = {"prompt": prompt, **given, "completion": completion, **system}
        return Form("prompt_completion", columns, True)
    if "text" in names and not completion and isinstance(raw[names["text"]], str):
        return Form("text", {"text": names["text"]})
    return None


def the_one(names: dict[str, str], known: tuple[set, set], speakers: set[str]) -> str | None:
    """The column that has one of the known names, if it is the only one."""
    plain, others = known
    said = {name for name in names if is_said_by(name, speakers)}
    found = names.keys() & plain or said or names.keys() & others
    return names[found.pop()] if len(found) == 1 else None


def is_said_by(name: str, speakers: set[str]) -> bool:
    speaker, _, said = name.partition("_")
    return speaker in speakers and said in SAID


def normal(name) -> str:
    """A column's name as it is compared."""
    return str(name).strip().lower().replace(" ", "_").replace("-", "_")


def shown(name) -> str:
    """A column's name in a message of one line, whatever is in it."""
    said = " ".join(str(name).split())[:40].encode("utf-8", "backslashreplace").decode()
    return said or "(a column without a name)"


def is_missing(value) -> bool:
    """Null, or NaN, which pandas writes for null."""
    return value is None or (isinstance(value, float) and value != value)


def is_text(value) -> bool:
    """A text, or nothing, as rows without a context have."""
    return isinstance(value, str) or is_missing(value)


def unknown_form(raws: list[dict], name: str) -> LabError:
    """What to say of rows whose form nobody knows."""
    keys = list(dict.fromkeys(shown(key) for raw in raws for key in raw))
    if not keys:
        return LabError(f"{name} has rows without any column: write prompt and completion into them.")
    known = {normal(key) for key in keys}
    listed = ", ".join(keys[:20]) + (", ..." if len(keys) > 20 else "")
    start = f"{name} has the columns {listed}"
    if {"chosen", "rejected"} <= known:
        for_sft = f"{MAP_THEM} (chosen)" if "prompt" in known else "rename chosen to messages"
        return LabError(f"{start}: that is data for DPO. For SFT, {for_sft}.")
    if "input_ids" in known:
        return LabError(f"{start}: it is turned into tokens already. Give the texts it was made from.")
    if known & set(ROLE_KEYS) and known & set(CONTENT_KEYS):
        return LabError(f'{start}: each row is a message. A row is a conversation: {{"messages": [...]}}.')
    several = [key for key in keys if may_be_meant(key)]
    if len(several) > 1:
        return LabError(f"{start}: which of {', '.join(several[:8])} are meant is open; {MAP_THEM}.")
    if column := next((key for key in keys if normal(key) in ("messages", "conversations")), None):
        return LabError(f"{name}: {column} holds no list of messages, each with a role and a content.")
    return LabError(f"{start}, which no known form has: rename them to prompt and completion, or {MAP_THEM}.")


def may_be_meant(column: str) -> bool:
    """Whether a column has a name of questions or answers."""
    name = normal(column)
    return any(name in group for group in (*PROMPTS, *COMPLETIONS)) or is_said_by(name, ASKING | ANSWERING)


def said_of(form: Form, raw: dict) -> Iterable[str]:
    """How the rows are read, and what TRL makes of them as they stand, where a user would be surprised."""
    columns = form.columns
    if form.name == "alpaca":
        asked = asked_in(columns, ("instruction", "input"))
        yield f"Alpaca: {asked} the user's message, {columns['output']!r} is the answer."
    elif form.name == "sharegpt":
        yield f"ShareGPT: {columns['messages']!r} holds messages; human is user, gpt is assistant."
    elif form.renamed:
        asked = asked_in(columns, ("prompt", "input"))
        yield f"{asked} read as the user's message and {columns['completion']!r} as the answer."
    if has_weights(raw.get(columns.get("messages"))):
        yield "TRL does not read the messages' weight or loss_weight: all turns are trained alike."
    if form.name == "messages" and any(normal(key) in SYSTEMS for key in raw):
        yield "TRL leaves out a system prompt beside the messages: make it the first of them."
    others = [key for key in raw if key not in columns.values() and key not in BESIDE]
    if form.name == "text" and any(may_be_meant(key) or normal(key) in LABELS for key in others):
        yield f"Trained on is {columns['text']!r} alone, all of it. If that is not what you mean, {MAP_THEM}."
    if others:
        yield f"Not trained on: {', '.join(map(shown, others[:10]))}{', ...' if len(others) > 10 else ''}."


def asked_in(columns: dict[str, str], parts: tuple[str, ...]) -> str:
    """The columns that make the user's message, and the verb."""
    there = [repr(columns[part]) for part in parts if part in columns]
    return f"{' and '.join(there)} {'are' if len(there) > 1 else 'is'}"


def has_weights(value) -> bool:
    """Whether these are messages that say which of them are trained on, as OpenAI's service reads it."""
    items = value if isinstance(value, list) else []
    return any(isinstance(item, dict) and {"weight", "loss_weight"} & item.keys() for item in items)


def has_parts(value) -> bool:
    """Whether these are messages with a list for content."""
    items = value if isinstance(value, list) else []
    return any(isinstance(item, dict) and isinstance(item.get("content"), list) for item in items)


# ---------------------------------------------------------------- a row of a form


def to_record(number: int, where: str, raw: dict, form: Form) -> Record:
    """The row as a Record. If it does not fit the form: of the other form that it has, or with faults."""
    missing = [c for part, c in form.columns.items() if part not in OPTIONAL and is_missing(raw.get(c))]
    if missing:
        other = form_of(raw)
        if other and other.name != form.name:
            form = other
            missing = []
    record = Record(number, where, form.name, raw)
    for column in missing:
        has = ", ".join(map(shown, list(raw)[:5])) or "no column"
        state = f"is {what_is(raw[column])}" if column in raw else f"is missing (the row has {has})"
        record.faults.append(f"{column} {state}")
    READERS[form.name](record, raw, form)
    return record


OPTIONAL = {"input", "system"}


def read_chat(record: Record, raw: dict, form: Form) -> None:
    """messages and sharegpt."""
    column = form.columns["messages"]
    value = raw.get(column)
    if not is_missing(value):
        record.messages = read_messages(value, column, record.faults, renames=form.name == "sharegpt")
    add_system(record, raw, form)


def read_pair(record: Record, raw: dict, form: Form) -> None:
    """prompt_completion: two texts or two lists of messages."""
    prompt, completion = (raw.get(form.columns[part]) for part in ("prompt", "completion"))
    if is_messages(prompt) and is_messages(completion):  # written as texts, perhaps
        prompt, completion = parsed(prompt), parsed(completion)
    if isinstance(prompt, list) and isinstance(completion, list):
        asked = read_messages(prompt, form.columns["prompt"], record.faults)
        record.messages = asked + read_messages(completion, form.columns["completion"], record.faults)
        record.completion_from = len(asked)
        add_system(record, raw, form)
        return
    record.chat = form.renamed
    two_turns(record, form, with_input(prompt, raw, form), completion, ("prompt", "completion"))
    add_system(record, raw, form)


def read_alpaca(record: Record, raw: dict, form: Form) -> None:
    instruction, output = (raw.get(form.columns[part]) for part in ("instruction", "output"))
    two_turns(record, form, with_input(instruction, raw, form), output, ("instruction", "output"))
    add_system(record, raw, form)


def with_input(asked, raw: dict, form: Form):
    """A question with what it is about below it."""
    given = raw.get(form.columns.get("input"))
    if isinstance(asked, str) and isinstance(given, str) and given.strip():
        return f"{asked}\n\n{given}"
    return asked


def two_turns(record: Record, form: Form, asked, answered, parts: tuple[str, str]) -> None:
    """A user's and an assistant's message; a fault for what is no text."""
    for value, role, part in zip((asked, answered), ("user", "assistant"), parts, strict=True):
        if not isinstance(value, str) and not is_missing(value) and not record.faults:
            record.faults.append(f"{form.columns[part]} is {what_is(value)} and no text")
        record.messages.append({"role": role, "content": as_text(value)})
    record.completion_from = 1


def add_system(record: Record, raw: dict, form: Form) -> None:
    """The system prompt of a column of its own, in front."""
    system = raw.get(form.columns.get("system"))
    if isinstance(system, str) and system.strip() and record.messages:
        record.messages.insert(0, {"role": "system", "content": system})
        if record.completion_from is not None:
            record.completion_from += 1


def read_text(record: Record, raw: dict, form: Form) -> None:
    value = raw.get(form.columns["text"])
    if not isinstance(value, str) and not is_missing(value):
        record.faults.append(f"{form.columns['text']} is {what_is(value)} and no text")
    record.text = as_text(value)


READERS = {
    "messages": read_chat,
    "sharegpt": read_chat,
    "prompt_completion": read_pair,
    "alpaca": read_alpaca,
    "text": read_text,
}
