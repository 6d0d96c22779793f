"""Which tokens of a row are learned: labels that repeat the ids where they are, and -100 elsewhere."""

from __future__ import annotations

from labsupport.models.chat import IGNORED


def assistant_labels(ids: list[int], header: list[int], end: int) -> list[int]:
    """Labels of a conversation in which every answer is learned, each with the token that ends it.

    header: the ids that open an assistant's turn, which are not learned; end: the id that ends a turn. An
    answer that was cut off at the end of the row is learned as far as it goes.
    """
    labels, inside = [], False
    for position, token in enumerate(ids, start=1):
        labels.append(token if inside else IGNORED)
        opened = ids[max(0, position - len(header)) : position] == header
        inside = token != end if inside else opened
    return labels


def header_and_end(tokenizer, template) -> tuple[list[int], int]:
    """A template's `header` as ids of this tokenizer, and the id of its `end`, for `assistant_labels`."""
    header = tokenizer(template.header, add_special_tokens=False)["input_ids"]
    return header, tokenizer.convert_tokens_to_ids(template.end)


def prompt_and_completion(tokenizer, prompt: list[dict], completion: list[dict]) -> tuple[list, list]:
    """Ids and labels of a row in TRL's prompt + completion form: learned is what comes after the prompt.

    prompt, completion: messages. The prompt ends with the opening of the assistant's turn, and what follows
    the answer's end, ChatML's line break, counts to the completion. Where the prompt's ids do not begin the
    row's, the completion begins where they part.
    """
    begun = tokenizer.apply_chat_template(prompt, add_generation_prompt=True)["input_ids"]
    ids = tokenizer.apply_chat_template(prompt + completion)["input_ids"]
    length = 0
    while length < min(len(begun), len(ids)) and begun[length] == ids[length]:
        length += 1
    return ids, [IGNORED] * length + ids[length:]


def spans(text: str, header: str, end: str) -> list[tuple[int, int]]:
    """Where in a rendered text the answers stand, each with its end, as (start, stop) in characters.

    A text in which users wrote the header themselves has answers that nobody gave: see the notebook.
    """
    found, start = [], text.find(header)
    while start >= 0:
        start += len(header)
        stop = text.find(end, start)
        stop = len(text) if stop < 0 else stop + len(end)
        found.append((start, stop))
        start = text.find(header, stop)
    return found


def labels_in(ids: list[int], offsets: list[tuple], spans: list[tuple]) -> list[int]:
    """Labels that learn the tokens lying in one of the spans, by at least a character.

    offsets: of each token (start, stop) in characters: `tokenizer(text, return_offsets_mapping=True)`.
    """

    def learned(start: int, stop: int) -> bool:
        return any(start < b and stop > a for a, b in spans)

    return [i if learned(*place) else IGNORED for i, place in zip(ids, offsets, strict=True)]


def trained_share(labels: list[int]) -> float:
    """The share of a row's tokens that are learned, 0 to 1."""
    return sum(label != IGNORED for label in labels) / len(labels) if labels else 0.0
