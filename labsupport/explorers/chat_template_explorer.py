"""Messages in, tokens out: what a chat template makes of a conversation, and which tokens are learned."""

from __future__ import annotations

import functools
import json
import re

import ipywidgets as widgets
from IPython.display import HTML

from labsupport.chat_formats import loss_masks, templates, token_view
from labsupport.core.files import LabError
from labsupport.models import base_model
from labsupport.models.chat import IGNORED
from labsupport.teaching.explorer_shell import Explorer, View

EXAMPLE = """system: Answer in one word.
user: What is the capital of France?
assistant: Paris.
user: And of Italy?
assistant: Rome."""
ROLES = ("system", "user", "assistant")
BEGINNING = re.compile(rf"^\s*({'|'.join(ROLES)})\s*:[ \t]*", re.IGNORECASE | re.MULTILINE)
TRAINED = ("assistant turns", "completion", "everything")
LONGEST = 20_000  # characters
FORM = 'write lines such as "user: Hello", or JSON such as [{"role": "user", "content": "Hello"}].'


def view(
    messages: str | list[dict] = EXAMPLE,
    template: str = "chatml",
    trained: str = "assistant turns",
    generation_prompt: bool = False,
) -> View:
    """The row's tokens, learned ones marked, and the same as a table.

    messages: blocks of "role: content", JSON, or a list of dicts. trained: the answers ("assistant turns"),
    the last one alone with what the template writes after it ("completion"), or "everything". The ids are
    those of the course's tokenizer, with the template's special tokens added where it has none of the name.
    LabError, in one line, for what cannot be read and for what the template refuses.
    """
    if trained not in TRAINED:
        raise LabError(f"Unknown choice {trained!r} of what is trained. There are: {', '.join(TRAINED)}.")
    messages = read(messages) if isinstance(messages, str) else messages
    chosen = templates.load(template)
    text = templates.render(chosen, messages, generation_prompt)
    tokenizer = _tokenizer(template)
    row = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    places = learned_places(chosen, messages, text, trained)
    labels = loss_masks.labels_in(row["input_ids"], row["offset_mapping"], places)
    shown = token_view.show(tokenizer, row["input_ids"], labels)
    special = sum(token.special for token in shown.tokens)
    alone = tokenizer([m["content"] for m in messages], add_special_tokens=False)["input_ids"]
    heading = (
        f"{template}: {shown.heading}. The messages alone are {sum(map(len, alone))} tokens; {special} are "
        f"special ones. Counted by the course's tokenizer{added(template)}. {chosen.system}"
    )
    table = [
        {
            "place": str(place),
            "token": token_view.shown(token.text),
            "id": str(token.id),
            "special": "special" if token.special else "",
            "label": "-100, not learned" if token.label == IGNORED else str(token.label),
        }
        for place, token in enumerate(shown.tokens)
    ]
    return View(heading, table, drawing=HTML(shown.marked()))


def learned_places(
    template: templates.Template, messages: list[dict], text: str, trained: str
) -> list[tuple]:
    """Where in the rendered text what is learned stands, as (start, stop) in characters."""
    if trained == "everything":
        return [(0, len(text))]
    if trained == "assistant turns":
        return loss_masks.spans(text, template.header, template.end)
    if messages[-1]["role"] != "assistant" or len(messages) < 2:
        raise LabError("A completion needs an answer as the last message, and a message before it.")
    begun = templates.render(template, messages[:-1], add_generation_prompt=True)
    row = templates.render(template, messages)
    start = next(
        (i for i, (a, b) in enumerate(zip(begun, row, strict=False)) if a != b), min(len(begun), len(row))
    )
    return [(start, len(row))]


@functools.lru_cache(maxsize=8)
def _tokenizer(template: str):
    from transformers import AutoTokenizer

    return templates.tokenizer_with(AutoTokenizer.from_pretrained(base_model.path()), template)


def added(template: str) -> str:
    """A remark on the special tokens that the course's tokenizer lacked and was given; else nothing."""
    tokenizer = _tokenizer(template)
    count = len(tokenizer) - tokenizer.vocab_size
    return f", with {count} special tokens of this template added" if count else ""


def read(text: str) -> list[dict]:
    """The messages in a text: JSON (a list, or an object with "messages") or blocks of "role: content".

    LabError, in one line, for anything else.
    """
    if not text.strip():
        raise LabError(f"There are no messages: {FORM}")
    if len(text) > LONGEST:
        raise LabError(f"This is {len(text):,} characters long: the explorer takes up to {LONGEST:,}.")
    if text.lstrip().startswith(("[", "{")):
        return from_json(text)
    pieces = BEGINNING.split(text)
    if pieces[0].strip():
        first = pieces[0].strip().splitlines()[0][:40]
        raise LabError(f"The text begins with {first!r}, which names no role: {FORM}")
    contents = [content.removesuffix("\n") for content in pieces[2::2]]
    return [{"role": r.lower(), "content": c} for r, c in zip(pieces[1::2], contents, strict=True)]


def from_json(text: str) -> list[dict]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        said = getattr(error, "msg", "nested too deeply")
        place = f" in line {error.lineno}, column {error.colno}" if hasattr(error, "lineno") else ""
        raise LabError(f"This is not JSON{place} ({said}): mend it, or {FORM}") from error
    found = found.get("messages", found) if isinstance(found, dict) else found
    found = [found] if isinstance(found, dict) else found
    templates.check(found)
    return found


def explore(
    messages: str = EXAMPLE,
    template: str = "chatml",
    trained: str = "assistant turns",
    generation_prompt: bool = False,
) -> Explorer:
    """The view with controls, starting at the given values."""
    controls = {
        "messages": widgets.Textarea(
            value=messages,
            rows=6,
            continuous_update=False,
            description="messages (shown when you leave the box)",
        ),
        "template": widgets.Dropdown(options=templates.names(), value=template, description="template"),
        "trained": widgets.Dropdown(options=TRAINED, value=trained, description="trained on"),
        "generation_prompt": widgets.Checkbox(
            value=generation_prompt, description="generation prompt", indent=False
        ),
    }
    return Explorer(view, controls, "What a chat template makes of messages")
