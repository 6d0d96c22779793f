"""In which ways an evaluation's rows may have been put to the model: as trained, and otherwise."""

from __future__ import annotations

import functools
import os
import re
from collections import Counter
from dataclasses import dataclass

from labsupport.chat_formats import templates
from labsupport.format_runs import prompt_formats
from labsupport.token_checks.chat_markers import FORMATS
from labsupport.training_data.record import Record, content_of

HELPFUL = "You are a helpful assistant."
ALPACA_ALONE = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{text}\n\n### Response:\n"
)
PLAIN, ROLES = "as plain text, without a chat template", "with roles written by hand (user:, assistant:)"
IN_ALPACA, IN_LLAMA_3 = "in Alpaca's form (### Instruction:)", "in Llama 3's form, written by hand"
# Prompts written by hand: how it is said, the form with a system prompt, the form without ("" for none).
BY_HAND = (
    (PLAIN, "{system}\n\n{text}\n", "{text}\n"),
    (PLAIN, "{system}\n\n{text}", "{text}"),
    (PLAIN, "{system}\n{text}", "{text}"),
    (PLAIN, "{system}\n{text}\n", "{text}\n"),
    (ROLES, "{system}\n\nuser: {text}\nassistant:", "user: {text}\nassistant:"),
    (ROLES, "{system}\n\nUser: {text}\nAssistant:", "User: {text}\nAssistant:"),
    (IN_ALPACA, prompt_formats.WITH_INPUT, ALPACA_ALONE),
    (IN_ALPACA + " without the input", prompt_formats.WITHOUT_INPUT, ""),
    (IN_LLAMA_3, prompt_formats.LLAMA_3, ""),
    (IN_LLAMA_3, prompt_formats.LLAMA_3.removeprefix("<|begin_of_text|>"), ""),
)
ANSWER_MARKS = re.compile(
    "|".join(rf"(?:{one.answer})" for one in FORMATS).replace("(?m)", "") + r"|^(?:assistant|Answer):",
    re.MULTILINE,
)
BEHIND_MARK = re.compile(r"(?:<\|end_header_id\|>)?:?\n*")
ENOUGH = 64  # training rows that tell what their prompts have in common


@dataclass(frozen=True)
class Way:
    """A way of asking. cause: the id of what it would be a sign of, "" for as trained. said: what stands
    behind "asked". prompts: token ids, one a row."""

    cause: str
    said: str
    prompts: list[list[int]]


def kind_of(record: Record) -> str:
    """ "chat" for messages, which get the template; "strings" for a bare prompt and completion; "text"."""
    if record.text is not None:
        return "text"
    return "chat" if record.chat else "strings"


def parted(record: Record) -> tuple[str, str] | None:
    """Prompt and answer of a row of strings or text; None for a text in which no answer is marked."""
    if record.text is None:
        return record.prompt, "".join(record.answers)
    marks = list(ANSWER_MARKS.finditer(record.text))
    if not marks:
        return None
    begin = BEHIND_MARK.match(record.text, marks[-1].end()).end()
    return record.text[:begin], record.text[begin:]


def asked(record: Record) -> list[dict]:
    """The messages of a chat before its last answer, or its completion."""
    return record.messages[: record.completion_from or -1]


def expected(record: Record) -> str:
    """The answer that a row asks for; "" where it cannot be told."""
    if kind_of(record) != "chat":
        return (parted(record) or ("", ""))[1]
    return "".join(map(content_of, record.messages[len(asked(record)) :]))


# ---------------------------------------------------------------- as trained


class Asking:
    """How training put a question, so that any row can be put so.

    kind: "chat", "strings", "text" or "tokens". before, after: what all prompts that are no chat begin and
    end with. system: the system prompt that all chats have, None where they have none or several.
    """

    def __init__(self, run):
        self.tokenizer = run.tokenizer()
        self.before = self.after = ""
        self.system = None
        train = run.records()
        kinds = Counter(map(kind_of, train))
        self.kind = kinds.most_common(1)[0][0] if kinds else "tokens" if run.train_rows else "chat"
        own = [record for record in train if kind_of(record) == self.kind][:ENOUGH]
        if self.kind == "chat":
            systems = {system_of(asked(record)) for record in own}
            self.system = systems.pop() if len(systems) == 1 else None
        elif self.kind == "tokens":
            from labsupport.run_rows.fed_rows import fed_rows  # which parts texts as it is done here

            fed = [row for row in fed_rows(run) if row.answer][:ENOUGH]
            self.wrapped([self.tokenizer.decode(row.view.ids[: row.answer[0]]) for row in fed])
        else:
            self.wrapped([found[0] for record in own if (found := parted(record))])

    def wrapped(self, prompts: list[str]) -> None:
        """Note what these have in common at both ends."""
        if len(set(prompts)) > 1:
            self.before = os.path.commonprefix(prompts)
            rest = [prompt[len(self.before) :][::-1] for prompt in prompts]
            self.after = os.path.commonprefix(rest)[::-1]

    def prompt(self, record: Record) -> list[int] | None:
        """The ids of a row's prompt as training would have put it; None where that cannot be told."""
        if self.kind == "chat":
            messages = self.messages(record)
            if self.system is not None and messages and messages[0]["role"] != "system":
                messages = [{"role": "system", "content": self.system}, *messages]
            return chat_ids(self.tokenizer, messages)
        if kind_of(record) != "chat":
            found = parted(record)
            return found and self.tokenizer(found[0])["input_ids"]
        if not self.before + self.after:
            return None
        text = self.before + last_user(asked(record)) + self.after
        return self.tokenizer(text, add_special_tokens=self.kind != "tokens")["input_ids"]

    def messages(self, record: Record) -> list[dict]:
        """A row's question as messages. What all training rows begin and end with belongs to no string's."""
        if kind_of(record) == "chat":
            return asked(record)
        prompt = (parted(record) or ("", ""))[0]
        if self.before + self.after and prompt.startswith(self.before) and prompt.endswith(self.after):
            inner = prompt[len(self.before) : len(prompt) - len(self.after)]
            system = longest_part(self.before)
            return [*([{"role": "system", "content": system}] if system else []), user(inner)]
        return [user(prompt)]


def user(content: str) -> dict:
    return {"role": "user", "content": content}


def system_of(messages: list[dict]) -> str | None:
    """The system prompt, None without one."""
    return content_of(messages[0]) if messages and messages[0].get("role") == "system" else None


def last_user(messages: list[dict]) -> str:
    """What the user said last."""
    return next((content_of(m) for m in reversed(messages) if m.get("role") == "user"), "")


def longest_part(before: str) -> str:
    """The longest text in what all prompts begin with, without marks of formats: their system prompt."""
    for form in (prompt_formats.WITH_INPUT, ALPACA_ALONE):
        before = before.replace(form.partition("\n\n")[0], "\n\n")
    pieces = re.split(
        r"<\|[^|>]*\|>(?:system|user|assistant)?|<\w+>|\[/?INST\]|###[^\n]*|\n\n|\n\w+:", before
    )
    return max((piece.strip() for piece in pieces), key=len, default="")


def chat_ids(tokenizer, messages, template: str | None = None, opened: bool = True) -> list[int] | None:
    """The ids of messages by a template, the answer's turn opened; None where the template refuses them."""
    try:
        return tokenizer.apply_chat_template(
            messages, chat_template=template, add_generation_prompt=opened, return_dict=True
        )["input_ids"]
    except Exception:  # a template can raise anything
        return None


# ---------------------------------------------------------------- otherwise


def ways(asking: Asking, records: list[Record], base_tokenizer=None) -> list[Way]:
    """The ways of asking these rows, as trained first; each once, and only what can be put to all rows.

    [] where it cannot be told how they were asked in training.
    """
    trained = [asking.prompt(record) for record in records]
    if not records or None in trained:
        return []
    found = [Way("", "as in training", trained)]
    known = {tuple(map(tuple, trained))}
    for cause, said, put in candidates(asking, base_tokenizer):
        prompts = [put(record) for record in records]
        key = None if None in prompts else tuple(map(tuple, prompts))
        if key is not None and key not in known and all(prompts):
            known.add(key)
            found.append(Way(cause, said, prompts))
    return found


def candidates(asking: Asking, base_tokenizer):
    """(cause, said, function from a row to its prompt's ids or None) of each way that may have been taken."""
    ids = asking.tokenizer
    messages, template = asking.messages, functools.partial(chat_ids, asking.tokenizer)
    mismatch = "eval-template" if asking.kind == "chat" else "template-mismatch"
    yield mismatch, "with the model's chat template", lambda r: template(messages(r))
    if asking.kind != "chat":
        said = "with the model's chat template around the whole prompt"
        yield mismatch, said, lambda r: template([user((parted(r) or ("", ""))[0])])
    for cause, said, put in (
        (mismatch, "with the chat template, without a system prompt", lambda m: template(unsystem(m))),
        ("eval-template", "in the template's marks, without a system turn", lambda m: no_system_turn(ids, m)),
        ("eval-template", "with the base model's chat template", lambda m: chat_ids(base_tokenizer, m)),
        (
            "eval-template",
            "with the chat template, the assistant's turn not opened (add_generation_prompt)",
            lambda m: template(m, opened=False),
        ),
        *(
            (
                "eval-template",
                f"with the chat template and the system prompt {system!r}",
                lambda m, system=system: template([{"role": "system", "content": system}, *unsystem(m)]),
            )
            for system in (HELPFUL, "")
        ),
        *(("eval-template", said, functools.partial(by_hand, ids, *forms)) for said, *forms in BY_HAND),
        ("eval-template", PLAIN + ", the user's alone", lambda m: ids(last_user(m))["input_ids"]),
        *(
            (
                "eval-template",
                f"with the chat template of another family ({name})",
                functools.partial(of_family, ids, name),
            )
            for name in templates.names()
        ),
    ):
        yield cause, said, lambda r, put=put: put(messages(r))
    yield from other_beginnings(asking)


def unsystem(messages: list[dict]) -> list[dict]:
    return [message for message in messages if message.get("role") != "system"]


def by_hand(tokenizer, with_system: str, without: str, messages: list[dict]) -> list[int] | None:
    """The last question in a form written by hand."""
    system = system_of(messages)
    form = with_system if system else without
    return tokenizer(form.format(system=system, text=last_user(messages)))["input_ids"] if form else None


def no_system_turn(tokenizer, messages: list[dict]) -> list[int] | None:
    """The question in the template's marks, without the system turn that the template may write by itself."""
    own = chat_ids(tokenizer, unsystem(messages))
    if own is None:
        return None
    special = set(tokenizer.all_special_ids)
    whole = tokenizer.decode(own)
    asked = len(tokenizer(whole[: whole.rfind(last_user(messages))], add_special_tokens=False)["input_ids"])
    front = 1 if own[0] == tokenizer.bos_token_id and own.count(own[0]) == 1 else 0
    opens = next((token for token in own[front:asked] if token in special), None)
    if opens is None:
        return None
    begin = max(place for place in range(asked) if own[place] == opens)
    return own[:front] + own[begin:]


def of_family(tokenizer, name: str, messages: list[dict]) -> list[int] | None:
    """The messages by another family's template, whose marks are mere text to this tokenizer."""
    merged = [user("\n\n".join(filter(None, (system_of(messages), last_user(messages)))))]
    for one in (messages, merged):  # some templates refuse a system prompt
        try:
            text = templates.render(name, one, add_generation_prompt=True)
        except Exception:  # LabError for a refusal; a template can raise anything
            continue
        return tokenizer(text, add_special_tokens=False)["input_ids"]
    return None


def other_beginnings(asking: Asking):
    """BOS twice, or not at all, before what is otherwise as in training."""
    bos = asking.tokenizer.bos_token_id
    if bos is None:
        return
    said = "as in training, but with BOS once more in front"
    yield "eval-template", said, lambda r: (own := asking.prompt(r)) and [bos, *own]
    said = "as in training, but without BOS"
    yield "eval-template", said, lambda r: (own := asking.prompt(r)) and (own[1:] if own[0] == bos else None)
