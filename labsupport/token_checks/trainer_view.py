"""What TRL 1.16's SFTTrainer makes of rows: token ids, and which of them the loss sees.

The same as the trainer itself, which the tests prove, but in batches and without its model and data set.
"""

from __future__ import annotations

import contextlib
import json
import weakref
from pathlib import Path

from labsupport.core.files import LabError, first_line, read_text
from labsupport.findings.check import View
from labsupport.training_data.record import Record

# SFTConfig's own, for when no settings were given.
DEFAULTS = {
    "max_length": 1024,
    "truncation_mode": "keep_start",
    "packing": False,
    "packing_strategy": "bfd",
    "completion_only_loss": None,  # on for prompt + completion, off otherwise
    "assistant_only_loss": False,
}


def setting(recipe, name: str):
    """A field of SFTConfig: what the recipe says, or TRL's default where there is no recipe."""
    return DEFAULTS[name] if recipe is None else recipe.get(name)


def as_trained(tokenizer, recipe):
    """The tokenizer with the eos_token and the chat template that the recipe asks for; itself if for none.

    LabError for a template file that cannot be read; NoSource for another model's tokenizer that cannot.
    """
    import copy

    path, eos = (recipe.get(name) if recipe else None for name in ("chat_template_path", "eos_token"))
    if not path and not eos:
        return tokenizer
    own = copy.deepcopy(tokenizer)
    if eos in own.get_vocab():  # TRL stops at another
        own.eos_token = eos
    if path and path.endswith((".jinja", ".j2")):
        own.chat_template = read_text(Path(path))
    elif path:  # another model's folder or name: TRL takes its template, its added tokens and its end token
        source, have = source_of(path), own.get_vocab()
        tokens = source.added_tokens_decoder.values()
        own.add_tokens([token for token in tokens if token.content not in have])
        own.chat_template, own.eos_token = source.get_chat_template(), source.eos_token
    return own


class NoSource(LabError):
    """The tokenizer that chat_template_path names cannot be had."""


def source_of(path: str):
    """The tokenizer in a folder or of a name on the hub, for its template."""
    from transformers import AutoTokenizer

    from labsupport.models import hub

    try:
        folder = path if Path(path).is_dir() else hub.fetch_tokenizer(path)
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # whatever the hub, transformers or a damaged file says
        raise NoSource(
            f"chat_template_path {path!r} cannot be read here ({first_line(error)[:200]})."
        ) from error


def training_template(tokenizer, recipe) -> str | None:
    """The template that `assistant_only_loss` swaps in where the tokenizer's has no {% generation %} markers.

    None where nothing is swapped. ValueError where TRL has none to swap in, and stops.
    """
    if not setting(recipe, "assistant_only_loss") or not tokenizer.chat_template:
        return None
    from trl.chat_template_utils import get_training_chat_template, has_generation_markers

    if has_generation_markers(tokenizer.chat_template):
        return None
    return get_training_chat_template(tokenizer)


def views(records: list[Record], tokenizer, recipe=None) -> list[View | None]:
    """The rows as the model gets them, a View each; None where the trainer would stop at the row.

    A row that truncation leaves without a trained token has a View without one: TRL drops it. Alpaca and
    ShareGPT rows, which TRL does not read, are seen as they are once they are messages.
    """
    chats = [record for record in records if record.text is None and record.chat]
    rows = {id(record): row for record, row in zip(chats, of_chats(chats, tokenizer, recipe), strict=True)}
    strings = [record for record in records if record.text is not None or not record.chat]
    rows |= {
        id(record): row for record, row in zip(strings, of_strings(strings, tokenizer, recipe), strict=True)
    }
    return [
        view(*row, tokenizer, recipe) if row else None for row in (rows[id(record)] for record in records)
    ]


def view(ids: list[int], trained: list[bool], tokenizer, recipe) -> View:
    """The row as far as the trainer keeps it."""
    kept = slice(None)
    longest, strategy = setting(recipe, "max_length"), setting(recipe, "packing_strategy")
    if setting(recipe, "packing"):
        if strategy == "bfd":  # the other strategies cut no row off
            kept = slice(longest)
    elif longest is not None:
        kept = slice(-longest, None) if setting(recipe, "truncation_mode") == "keep_end" else slice(longest)
    return View(ids[kept], trained[kept], len(ids), decoded(tokenizer, ids[kept]))


def of_strings(records: list[Record], tokenizer, recipe) -> list[tuple[list, list] | None]:
    """Ids and mask of bare strings: no template; the end token is appended unless it stands there."""
    eos = tokenizer.eos_token or ""
    prompts, wholes = [], []
    for record in records:
        last = record.text if record.text is not None else "".join(record.answers)
        prompts.append("" if record.text is not None else record.prompt)
        wholes.append(prompts[-1] + last + ("" if last.endswith(eos) else eos))
    begun, full = encoded(tokenizer, prompts), encoded(tokenizer, wholes)
    return [
        ids and (ids, mask(None if record.text is not None else prompt, ids, recipe))
        for record, prompt, ids in zip(records, begun, full, strict=True)
    ]


def of_chats(records: list[Record], tokenizer, recipe) -> list[tuple[list, list] | None]:
    """Ids and mask of conversations, rendered by the template, which writes BOS and EOS itself."""
    try:
        template = training_template(tokenizer, recipe)
    except ValueError:
        return [None] * len(records)
    parted = [record for record in records if record.completion_from]
    prompts = [(record.messages[: record.completion_from], extras(record)) for record in parted]
    begun = chat_ids(tokenizer, prompts, template, add_generation_prompt=True)
    prompt_of = {id(record): ids for record, ids in zip(parted, begun, strict=True)}
    wholes = [(record.messages, extras(record)) for record in records]
    masked = setting(recipe, "assistant_only_loss")
    rows = []
    for record, whole in zip(
        records, chat_ids(tokenizer, wholes, template, return_assistant_tokens_mask=masked), strict=True
    ):
        prompt = prompt_of.get(id(record))
        if whole is None or (record.completion_from is not None and prompt is None):
            rows.append(None)
            continue
        ids, assistant = whole
        trained = mask(prompt and prompt[0], ids, recipe)
        rows.append((ids, [t and bool(a) for t, a in zip(trained, assistant or trained, strict=True)]))
    return rows


def mask(prompt: list[int] | None, ids: list[int], recipe) -> list[bool]:
    """What the loss sees: everything, or what comes after the ids that the row shares with its prompt."""
    begin = 0
    if prompt is not None and setting(recipe, "completion_only_loss") is not False:
        pairs = zip(prompt, ids, strict=False)
        begin = next((i for i, (one, other) in enumerate(pairs) if one != other), min(len(prompt), len(ids)))
    return [False] * begin + [True] * (len(ids) - begin)


def encoded(tokenizer, texts: list[str]) -> list[list[int] | None]:
    """Ids of texts, with the special tokens that the tokenizer adds itself; None for what is no Unicode."""
    if not texts:
        return []
    try:
        return tokenizer(texts, return_attention_mask=False)["input_ids"]
    except (TypeError, ValueError):  # half a surrogate pair: JSON can hold it, no tokenizer reads it
        return [None] if len(texts) == 1 else [encoded(tokenizer, [text])[0] for text in texts]


def chat_ids(tokenizer, conversations, template: str | None, **options) -> list:
    """Ids and assistant mask (None unless asked for) of each conversation, None where it is refused.

    conversations: messages with what the row gives the template besides.
    """
    if not any(given for _, given in conversations):
        try:
            return chat_batch(tokenizer, [messages for messages, _ in conversations], template, options)
        except Exception:  # a template can raise anything: look at one row after the other
            pass
    found = []
    for messages, given in conversations:
        try:
            found += chat_batch(tokenizer, [messages], template, options | given)
        except Exception:
            found.append(None)
    return found


def chat_batch(tokenizer, conversations, template, options) -> list[tuple[list, list | None]]:
    """`chat_ids` of conversations that the template takes."""
    if not conversations:
        return []
    out = tokenizer.apply_chat_template(conversations, chat_template=template, return_dict=True, **options)
    masks = out.get("assistant_masks") or [None] * len(conversations)
    return list(zip(out["input_ids"], masks, strict=True))


def extras(record: Record) -> dict:
    """What a row gives the template besides its messages: tools, and arguments of its own."""
    given = {}
    with contextlib.suppress(ValueError):  # tools that are no JSON
        if tools := record.raw.get("tools"):
            given["tools"] = json.loads(tools) if isinstance(tools, str) else tools
    own = record.raw.get("chat_template_kwargs")
    return given | (own if isinstance(own, dict) else {})


_PIECES = weakref.WeakKeyDictionary()  # of each tokenizer, the decoded tokens that were asked for so far


def decoded(tokenizer, ids: list[int]) -> list[str]:
    """The tokens as text. A character that several tokens share is the first one's; the others are ""."""
    known = _PIECES.setdefault(tokenizer, {})
    for token in set(ids).difference(known):
        text = tokenizer.decode([token])
        begins_word = str(tokenizer.convert_ids_to_tokens(token)).startswith("\u2581")
        known[token] = " " + text if begins_word and not text.startswith(" ") else text
    pieces = [known[token] for token in ids]
    if "\ufffd" in "".join(pieces):
        join_characters(tokenizer, ids, pieces)
    return pieces


def join_characters(tokenizer, ids: list[int], pieces: list[str]) -> None:
    """Decode together, in place, the tokens that are parts of one character (at most four bytes)."""
    start = 0
    while start < len(ids):
        if "\ufffd" in pieces[start]:
            for stop in range(start + 2, min(start + 5, len(ids) + 1)):
                together = tokenizer.decode(ids[start:stop])
                if "\ufffd" not in together:
                    pieces[start:stop] = [together, *[""] * (stop - start - 1)]
                    start = stop - 1
                    break
        start += 1
