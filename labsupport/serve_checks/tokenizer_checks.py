"""Would the server's tokenizer and template give the adapter the tokens it was trained on?

A server has one tokenizer, the base model's: vLLM 0.33.0 does not look for one in an adapter's folder.
"""

from __future__ import annotations

from pathlib import Path

from labsupport.core.files import first_line, read_json, short
from labsupport.core.text import number
from labsupport.findings.finding import Rule, hit_whole, shortened
from labsupport.serve_checks.adapter_folder import TEMPLATE, Adapter

NONE = Rule(
    "no-tokenizer", "note",
    "The adapter was saved without its tokenizer, so whether the base's is the one of training is not known.",
    "Save the tokenizer that you trained with into the adapter's folder.",
)  # fmt: skip
NO_TEMPLATE = Rule(
    "no-template", "warning",
    "Without a chat template a server refuses /v1/chat/completions; only plain prompts can be completed.",
    "Save the template of training as chat_template.jinja and give it to the server (--chat-template).",
)  # fmt: skip
TEMPLATE_DIFFERS = Rule(
    "template-differs", "warning",
    "The server would use the base's template: the adapter then sees prompts unlike those of training.",
    "Start the server with the adapter's template: --chat-template and the path of a chat_template.jinja.",
)  # fmt: skip
VOCABULARY_DIFFERS = Rule(
    "vocabulary-differs", "error",
    "The server would use the base's tokenizer, which cuts tokens that were added in training into pieces.",
    "Merge the adapter and serve it with its own tokenizer.",
)  # fmt: skip
EOS_DIFFERS = Rule(
    "eos-differs", "warning",
    "The server stops at the base's end of text: an adapter that was taught another one goes on talking.",
    "Put the token into the base's generation_config.json, or send it with each request (stop_token_ids).",
)  # fmt: skip
RULES = [NONE, NO_TEMPLATE, TEMPLATE_DIFFERS, VOCABULARY_DIFFERS, EOS_DIFFERS]


def compared(adapter: Adapter):
    """The adapter's tokenizer beside the base's."""
    own = tokenizer_in(adapter.folder, adapter.notes)
    base = None if adapter.base_folder is None else tokenizer_in(adapter.base_folder, adapter.notes)
    if own is None:
        yield hit_whole(NONE, f"{short(adapter.folder)} holds no tokenizer")
    if own is not None and base is not None:
        yield from differences(own, base, adapter)
    known = [one for one in (own, base) if one is not None]
    if base is not None and not any(one.chat_template for one in known):
        yield hit_whole(NO_TEMPLATE, "neither the adapter nor the base has a chat template")


def differences(own, base, adapter: Adapter):
    """What differs between the adapter's tokenizer and the base's."""
    mine, theirs = own.get_vocab(), base.get_vocab()
    other = [token for token, number in mine.items() if theirs.get(token) != number]
    if any(token != own.pad_token for token in other):  # padding is in no prompt
        first = f"; the first: {shortened(other[0], 40)}"
        sizes = f"the adapter's has {number(len(mine))} tokens, the base's {number(len(theirs))}"
        yield hit_whole(VOCABULARY_DIFFERS, f"{sizes}; {number(len(other))} are not the base's{first}")
    if own.eos_token != base.eos_token and own.eos_token_id not in ends_of(adapter.base_folder):
        yield hit_whole(EOS_DIFFERS, f"the adapter's is {own.eos_token}, the base's {base.eos_token}")
    if own.chat_template and own.chat_template != base.chat_template:
        said = "another one" if base.chat_template else "none"
        file = adapter.folder / TEMPLATE
        text = f"the adapter has a chat template, the base {said}"
        if not file.is_file():
            text += f"; it lies in tokenizer_config.json: write it into {TEMPLATE} for the server"
        yield hit_whole(TEMPLATE_DIFFERS, text)


def ends_of(base: Path) -> list:
    """Token ids at which a server stops by the model's generation_config.json, beside its EOS."""
    found = read_json(base / "generation_config.json")
    ends = found.get("eos_token_id") if isinstance(found, dict) else None
    return ends if isinstance(ends, list) else [ends]


def tokenizer_in(folder, notes: list[str]):
    """The tokenizer in a folder; None without one, with a note for one that is damaged."""
    from labsupport.preflight import tokenizers

    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        return None
    try:
        return tokenizers.loaded(str(folder))
    except Exception as error:  # whatever transformers or a damaged file says
        notes.append(f"The tokenizer in {short(folder)} cannot be loaded ({first_line(error)[:150]}).")
        return None


CHECKS = [compared]
