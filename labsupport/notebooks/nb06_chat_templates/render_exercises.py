"""Notebook 06's exercises on rendering: a chat template in Python, twice."""

from __future__ import annotations

from labsupport.chat_formats import by_hand
from labsupport.checking.exercise import Exercise, told


def _turns(*contents: str, system: str | None = None) -> list[dict]:
    """User and assistant in turn, behind a system message if one is given."""
    first = [] if system is None else [{"role": "system", "content": system}]
    roles = ("user", "assistant")
    return first + [{"role": roles[i % 2], "content": text} for i, text in enumerate(contents)]


def _cases(one: str, two: str, three: str) -> list[tuple]:
    return [
        (_turns("What is 7 x 8?"), one, True),
        (_turns("Hi", "Hello.", "And 9 x 9?", system="Be brief."), two, True),
        (_turns("Drei Äpfel 🍎", "3 apples"), three, False),
        (_turns(" two\nlines \n", " so ", "Go on.", "1\n2\n", system=" Stay calm. "), one, False),
    ]


# ---------------------------------------------------------------- ChatML


def _chatml(messages, default_system, prompt, **changes):
    """ChatML with parts exchanged: what a learner's renderer does."""
    parts = {
        "default": lambda messages: messages[0]["role"] != "system",
        "turn": "<|im_start|>{role}\n{content}<|im_end|>\n",
        "opening": "<|im_start|>assistant\n",
        "begin": "",
        "asked": prompt,
    } | changes
    if parts["default"](messages):
        messages = [{"role": "system", "content": default_system}, *messages]
    text = parts["begin"] + "".join(parts["turn"].format(**message) for message in messages)
    return text + (parts["opening"] if parts["asked"] else "")


def _changed_chatml(**changes):
    return lambda *given: _chatml(*given, **changes)


render_chatml = Exercise(
    name="chat_templates.render_chatml",
    reference=lambda messages, default_system, add_generation_prompt: by_hand.chatml(
        messages, default_system, add_generation_prompt
    ),
    cases=lambda: _cases("You are kind.", "Not needed here.", "You are a helpful AI assistant"),
    mistakes=told(
        _changed_chatml(default=lambda messages: False),
        "Where no system message comes first, the template writes one of its own: default_system.",
        _changed_chatml(default=lambda messages: True),
        "You always write the default system turn; a system message of the conversation takes its place.",
        _changed_chatml(asked=False),
        "add_generation_prompt does nothing: if it is true, the text ends with the opening of an answer.",
        _changed_chatml(asked=True),
        "You always open an answer at the end: only if add_generation_prompt is true.",
        _changed_chatml(opening="<|im_start|>assistant\n<|im_end|>\n"),
        "The opening at the end is left open: with <|im_end|> behind it, the answer is over already.",
        _changed_chatml(opening="<|im_start|>assistant"),
        "The opening ends with a line break, as every header does: else the model has to write it.",
        _changed_chatml(turn="<|im_start|>{role}\n{content}<|im_end|>"),
        "A line break is missing after <|im_end|>.",
        _changed_chatml(turn="<|im_start|>{role}\n{content}\n<|im_end|>\n"),
        "There is no line break between a message and its <|im_end|>.",
        _changed_chatml(turn="<|im_start|>{role} {content}<|im_end|>\n"),
        "After the role comes a line break, not a space.",
        _changed_chatml(turn="{role}: {content}\n", opening="assistant: "),
        "Roles alone are words like any other: each turn stands between <|im_start|> and <|im_end|>.",
        _changed_chatml(begin="<s>"),
        "ChatML has no token at the very beginning: it begins with the first turn.",
        lambda messages, *rest: _chatml(
            [{**message, "content": message["content"].strip()} for message in messages], *rest
        ),
        "You strip the messages; this template leaves spaces and line breaks as they are.",
    ),
    hints=[
        "One turn is f\"<|im_start|>{message['role']}\\n{message['content']}<|im_end|>\\n\".",
        "Look at messages[0]: if its role is not system, put a system message in front.",
        'At the end, if asked for: "<|im_start|>assistant\\n", and nothing behind it.',
    ],
    minutes=10,
    difficulty=1,
)

# ---------------------------------------------------------------- Llama 3.1

DATES = "Cutting Knowledge Date: December 2023\nToday Date: {date}\n\n"
HEADER = "<|start_header_id|>{role}<|end_header_id|>\n\n"


def _llama3(messages, date, prompt, **changes):
    """Llama 3.1's format with parts exchanged: what a learner's renderer does."""
    parts = {
        "begin": "<|begin_of_text|>",
        "header": HEADER,
        "end": "<|eot_id|>",
        "system": lambda dates, own: dates + own,
        "always": True,
        "clean": str.strip,
        "after": "",
        "asked": prompt,
    } | changes
    own = parts["clean"](messages[0]["content"]) if messages[0]["role"] == "system" else None
    turns = [(m["role"], parts["clean"](m["content"])) for m in messages if m["role"] != "system"]
    if parts["always"] or own is not None:
        turns = [("system", parts["system"](DATES.format(date=date), own or "")), *turns]
    text = "".join(parts["header"].format(role=role) + content + parts["end"] for role, content in turns)
    return parts["begin"] + text + (HEADER.format(role="assistant") + parts["after"]) * parts["asked"]


def _changed_llama3(**changes):
    return lambda *given: _llama3(*given, **changes)


render_llama3 = Exercise(
    name="chat_templates.render_llama3",
    reference=lambda messages, date, add_generation_prompt: by_hand.llama3(
        messages, date, add_generation_prompt
    ),
    cases=lambda: _cases("26 Jul 2024", "1 Dec 2026", "29 Feb 2028"),
    mistakes=told(
        _changed_llama3(begin=""),
        "<|begin_of_text|> is missing: here the template writes it, so the tokenizer must not add another.",
        _changed_llama3(begin="", header="<|begin_of_text|>" + HEADER),
        "<|begin_of_text|> stands once, at the very beginning, not before every turn.",
        _changed_llama3(clean=str),
        "This template strips every message at both ends.",
        _changed_llama3(clean=str.rstrip),
        "You strip the messages on the right alone; the template does it at both ends.",
        _changed_llama3(header="<|start_header_id|>{role}<|end_header_id|>\n"),
        "Two line breaks follow a header, not one.",
        _changed_llama3(always=False),
        "The system turn is always there: it holds the dates, with or without a system message.",
        _changed_llama3(system=lambda dates, own: own or dates),
        "A system message comes behind the dates, it does not replace them.",
        _changed_llama3(system=lambda dates, own: own),
        "The two dates are missing from the system turn.",
        _changed_llama3(system=lambda dates, own: own + dates),
        "The dates come first, then the system message.",
        _changed_llama3(after="<|eot_id|>"),
        "The opening at the end is left open: <|eot_id|> is for the model to write.",
        _changed_llama3(end="<|eot_id|>\n"),
        "Nothing stands between <|eot_id|> and the next header: no line break.",
        _changed_llama3(end="<|end_of_text|>"),
        "A turn ends with <|eot_id|>; <|end_of_text|> is the end of a document.",
        _changed_llama3(asked=False),
        "add_generation_prompt does nothing: if it is true, the text ends with an assistant's header.",
        _changed_llama3(asked=True),
        "You always write the last header: only if add_generation_prompt is true.",
        lambda messages, date, prompt: by_hand.chatml(messages, DATES.format(date=date), prompt),
        "That is ChatML: here a role stands between <|start_header_id|> and <|end_header_id|>.",
    ),
    hints=[
        'A turn: f"<|start_header_id|>{role}<|end_header_id|>\\n\\n{content.strip()}<|eot_id|>".',
        "The system turn: the line on the cutoff, the line on today, an empty line, then the message if any.",
        "Take a system message out of the list first, and write the system turn in any case.",
    ],
    minutes=15,
    difficulty=2,
)
