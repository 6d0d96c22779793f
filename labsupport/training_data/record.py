"""One row of a training file, in the one shape that everything else looks at."""

from __future__ import annotations

from dataclasses import dataclass, field

# What a row can look like. TRL reads the first three; the last two are converted to `messages` first.
FORMS = ("messages", "prompt_completion", "text", "alpaca", "sharegpt")


@dataclass
class Record:
    """A row of a training file.

    number: 1 for the first row. where: how a person finds it ("line 17", "row 17"). form: one of FORMS.
    raw: the row as it was read. messages: dicts with "role" and "content" (str), and whatever else the row
    had ("tool_calls", "name", "thinking"); [] in the text form. text: the whole row in the text form, else
    None. completion_from: the index of the first message of the completion, where the form says so
    (prompt_completion, alpaca); None where it does not (messages, sharegpt, text). chat: False where prompt
    and completion are bare strings, which TRL feeds to the model without a chat template. faults: what could
    not be read as this form, in words; the rest of the record is then what could be made of it.
    """

    number: int
    where: str
    form: str
    raw: dict
    messages: list[dict] = field(default_factory=list)
    text: str | None = None
    completion_from: int | None = None
    chat: bool = True
    faults: list[str] = field(default_factory=list)

    @property
    def prompt(self) -> str:
        """What stands before the last answer, as one text; "" in the text form."""
        before = self.messages[:-1] if self.completion_from is None else self.messages[: self.completion_from]
        return "\n".join(content_of(message) for message in before)

    @property
    def answers(self) -> list[str]:
        """What the assistant says, turn by turn; [] in the text form."""
        return [content_of(message) for message in self.messages if message.get("role") == "assistant"]

    @property
    def whole(self) -> str:
        """All that the row says, as one text."""
        if self.text is not None:
            return self.text
        return "\n".join(content_of(message) for message in self.messages)


def content_of(message: dict) -> str:
    """A message's content, "" where it has none (a tool call has none)."""
    content = message.get("content")
    return content if isinstance(content, str) else ""
