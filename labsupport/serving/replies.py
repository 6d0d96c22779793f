"""The same reply twice: generated in this process, and asked of a server; with the ids of its tokens.

An OpenAI-compatible server sends text, not ids. Its stream has one piece a token, though, and in a byte-level
vocabulary no two ordinary tokens have the same bytes: the pieces say which ids were chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from labsupport.core.files import LabError

if TYPE_CHECKING:
    import openai


@dataclass(frozen=True)
class Reply:
    """A greedy reply; equal to another one if all of this is."""

    prompt_tokens: int  # of the prompt a server says no more
    ids: tuple[int, ...]  # without the end of the turn
    text: str
    ended: bool  # by itself, not by the limit


def generated(model, tokenizer, messages: list[dict], max_tokens: int) -> Reply:
    """The reply in this process: the tokenizer's chat template, then `generate` without sampling.

    model: any causal language model, with or without an adapter. What its generation_config says besides
    sampling (a repetition penalty, say) applies, as it does in the server.
    """
    prompt = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    ).to(model.device)
    length = prompt["input_ids"].shape[1]
    ids = model.generate(**prompt, do_sample=False, max_new_tokens=max_tokens)[0, length:].tolist()
    ends = model.generation_config.eos_token_id
    ended = ids[-1] in (ends if isinstance(ends, list) else [ends])
    text = tokenizer.decode(ids, skip_special_tokens=True)
    return Reply(length, tuple(ids[:-1] if ended else ids), text, ended)


def served(client: openai.OpenAI, name: str, tokenizer, messages: list[dict], max_tokens: int) -> Reply:
    """The reply of a server to a streamed request, its ids worked out from the pieces.

    LabError if the stream breaks off, or if the pieces do not say which ids they are: one piece of several
    tokens (each half a character), or a vocabulary that is not byte-level.
    """
    options = {"max_tokens": max_tokens, "temperature": 0, "stream": True}
    usage, pieces = None, []
    for chunk in client.chat.completions.create(model=name, messages=messages, **options):
        pieces += [choice.delta.content for choice in chunk.choices if choice.delta.content]
        usage = chunk.usage or usage
    if usage is None:
        raise LabError(f"The stream of {name!r} ended before the answer did: the server's log may say why.")
    ids = tuple(_id_of(tokenizer, piece) for piece in pieces)
    # The end of the turn is counted, and sends no piece.
    if usage.completion_tokens - len(ids) not in (0, 1):
        raise LabError(
            f"{usage.completion_tokens} tokens came as {len(ids)} pieces: their ids are not known."
        )
    return Reply(usage.prompt_tokens, ids, "".join(pieces), usage.completion_tokens > len(ids))


def _id_of(tokenizer, piece: str) -> int:
    """The one token with these characters."""
    parts = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(piece)
    token = tokenizer.convert_tokens_to_ids("".join(part for part, _ in parts))
    if token is None or tokenizer.decode([token]) != piece:
        raise LabError(f"The piece {piece!r} is not one token of this vocabulary: its id is not known.")
    return token
