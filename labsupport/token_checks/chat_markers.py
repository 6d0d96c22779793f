"""The marks that chat formats put around turns, and whose marks stand in a text."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from labsupport.findings.finding import Evidence

SPEAKS = re.compile(
    r"instruct|chat|-it\b|^qwen-?3-[\d.]+b$"
)  # in the name of an edition that is no base model


@dataclass(frozen=True)
class Format:
    """A chat format. opens, ends: what a rendered text begins and ends with. user, answer: what stands before
    what either says, as regular expressions."""

    name: str
    opens: tuple[str, ...]
    ends: tuple[str, ...]
    user: str
    answer: str


# From the models' published templates; those of plain words count only at the beginning of a line.
FORMATS = (
    Format(
        "ChatML", ("<|im_start|>",), ("<|im_end|>", "<|im_start|>assistant"),
        r"<\|im_start\|>user", r"<\|im_start\|>assistant",
    ),
    Format(
        "Llama 3", ("<|begin_of_text|>", "<|start_header_id|>"),
        ("<|eot_id|>", "<|end_of_text|>", "<|end_header_id|>"),
        r"<\|start_header_id\|>user", r"<\|start_header_id\|>assistant",
    ),
    Format(
        "Llama 2 or Mistral", ("<s>[INST]", "<s> [INST]", "[INST]", "<<SYS>>"), ("[/INST]", "</s>"),
        r"\[INST\]", r"\[/INST\]",
    ),
    Format(
        "Gemma", ("<bos>", "<start_of_turn>"), ("<end_of_turn>", "<start_of_turn>model"),
        r"<start_of_turn>user", r"<start_of_turn>model",
    ),
    Format(
        "Phi or Zephyr", ("<|user|>", "<|system|>", "<|assistant|>"), ("<|end|>", "<|assistant|>"),
        r"<\|user\|>", r"<\|assistant\|>",
    ),
    Format(
        "DeepSeek", ("<｜begin▁of▁sentence｜>", "<｜User｜>"), ("<｜end▁of▁sentence｜>", "<｜Assistant｜>"),
        r"<｜User｜>", r"<｜Assistant｜>",
    ),
    Format(
        "Alpaca", ("### Instruction:", "### Response:", "Below is an instruction that describes a task"),
        ("### Response:",), r"(?m)^### Instruction:", r"(?m)^### Response:",
    ),
    Format(
        "Guanaco", ("### Human:", "### Assistant:"), ("### Assistant:",),
        r"(?m)^### Human:", r"(?m)### Assistant:",
    ),
    Format("Vicuna", (), (), r"(?m)^(?:USER|Human|User):", r"(?m)^ *(?:ASSISTANT|Assistant):|</s>ASSISTANT:"),
)  # fmt: skip
MAY_STAND = ("think", "tool")  # special tokens that rows may well contain
WINDOW = 40  # tokens shown as evidence


def control_tokens(tokenizer) -> list[str]:
    """The special tokens that make up turns: BOS, EOS, padding, and those in the template's text."""
    named = [tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token]
    special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    template = template_of(tokenizer)
    named += [token for token in special if token in template]
    return sorted({t for t in named if t and t.strip() and not any(word in t for word in MAY_STAND)})


def template_of(tokenizer) -> str:
    """The tokenizer's chat template, "" where it has none. Of several by name, the default one."""
    template = tokenizer.chat_template or ""
    return template if isinstance(template, str) else template.get("default", "")


def rendered_as(text: str) -> Format | None:
    """The chat format in which the text was written, question and answer; None for a text without."""
    for one in FORMATS:
        if re.search(one.user, text) and re.search(one.answer, text):
            return one
    return None


@functools.cache
def foreign_marks(own: str) -> tuple[dict[str, str], dict[str, str]]:
    """What turns of other formats begin and end with, and which format that is. own: see `wrapped_in`."""
    opens = {mark: one.name for one in FORMATS for mark in one.opens if mark not in own}
    ends = {mark: one.name for one in FORMATS for mark in one.ends if mark not in own}
    return opens, ends


def wrapped_in(content: str, own: str) -> str | None:
    """A foreign format's mark at a turn's beginning or end, or None. own: the model's template and tokens."""
    content = content.strip()
    opens, ends = foreign_marks(own)
    if content.startswith(tuple(opens)):
        return next(f"{mark} of {name}" for mark, name in opens.items() if content.startswith(mark))
    if not content.endswith(tuple(ends)) or (content.endswith("</s>") and "<s>" in content):
        return None  # the last is struck-through text in HTML
    return next(f"{mark} of {name}" for mark, name in ends.items() if content.endswith(mark))


def tokens_around(view, place: int, width: int = WINDOW) -> tuple[tuple[str, bool], ...]:
    """Decoded tokens around a place of a view, each with whether it is trained on."""
    start = max(0, min(place - width // 2, len(view.ids) - width))
    kept = slice(start, start + width)
    return tuple(zip(view.text[kept], view.trained[kept], strict=True))


def whole(text: str, view=None, place: int = 0) -> Evidence:
    """Evidence for something that is true of the data as a whole, shown in one row's tokens."""
    return Evidence("", text, 0, view and tokens_around(view, place))
