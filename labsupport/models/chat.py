"""Chat templates: from messages to token ids, and which of the tokens are the answer."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from labsupport.tasks import tickets


@dataclass(frozen=True)
class Example:
    """A training example as the model sees it. `ids` is prompt, answer, end of turn."""

    ids: list[int]
    prompt_length: int
    answer: str
    answer_offsets: list[tuple[int, int]]

    @property
    def targets(self) -> list[int]:
        """The ids that the model has to write: the answer, the end of the turn and what the template adds."""
        return self.ids[self.prompt_length :]


def prompt_ids(tokenizer, text: str) -> list[int]:
    """Token ids of the system prompt, the message and the opening of the assistant's turn."""
    return tokenizer.apply_chat_template(tickets.prompt(text), add_generation_prompt=True, return_dict=True)[
        "input_ids"
    ]


def encode_example(tokenizer, row: dict) -> Example:
    """The row rendered by the tokenizer's own template, with the answer's tokens located.

    answer_offsets: (start, end) in characters of the answer, one pair a token of the answer proper.
    Raises ValueError if the prompt's tokens are not a prefix of the whole (a template that does not
    allow training on the answer alone).
    """
    answer = tickets.answer(row)
    messages = [*tickets.prompt(row["text"]), {"role": "assistant", "content": answer}]
    rendered = tokenizer.apply_chat_template(messages, tokenize=False)
    encoded = tokenizer(rendered, add_special_tokens=False, return_offsets_mapping=True)
    prompt = prompt_ids(tokenizer, row["text"])
    if encoded["input_ids"][: len(prompt)] != prompt:
        raise ValueError("the rendered prompt is not a prefix of the rendered conversation")
    begin = rendered.rindex(answer)
    offsets = [(a - begin, b - begin) for a, b in encoded["offset_mapping"][len(prompt) :]]
    inside = [(a, b) for a, b in offsets if a < len(answer)]
    return Example(encoded["input_ids"], len(prompt), answer, inside)


def batches(sequences: list[list[int]], size: int) -> list[list[int]]:
    """Lists of at most `size` indices, sequences of like length together: less padding."""
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
    return [order[start : start + size] for start in range(0, len(order), size)]


def pad_left(tokenizer, sequences: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """int64 ids and mask of shape (rows, longest); padding stands in front, so the ends line up."""
    padded = tokenizer.pad({"input_ids": sequences}, padding_side="left", return_tensors="pt")
    return padded["input_ids"], padded["attention_mask"]


IGNORED = -100  # PyTorch's cross-entropy leaves out positions with this label


def pad_labels_left(labels: list[list[int]], filler: int = IGNORED) -> torch.Tensor:
    """int64 labels of shape (rows, longest), lined up with `pad_left`'s ids; padding is not learned."""
    rows = [torch.tensor(row) for row in labels]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=filler, padding_side="left")


def labels(ids: list[int], prompt_length: int) -> list[int]:
    """Training labels of a prompt + answer: the prompt is ignored, the answer and its end are learned."""
    return [IGNORED] * prompt_length + list(ids[prompt_length:])


def answer_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy, in nats a token, over the positions whose label is not IGNORED.

    logits: (batch, length, vocabulary), floating; labels: (batch, length), int64. The logits at position
    t are the prediction of token t + 1.
    """
    return torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=IGNORED
    )
