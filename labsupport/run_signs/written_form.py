"""In which form the rows are written, against the form in which the model's template asks."""

from __future__ import annotations

import re

from labsupport.core.text import number
from labsupport.run_folders.causes import PROVES, SUGGESTS, Sign
from labsupport.run_rows.fed_rows import FedRow
from labsupport.token_checks.chat_markers import control_tokens, rendered_as, wrapped_in

MOSTLY = 0.5
# Roles that people write by hand, in front of what is asked and of the answer.
ASKS = re.compile(r"(?im)^ *(?:user|human|question|instruction|customer|q) *:")
ANSWERS = re.compile(r"(?im)^ *(?:assistant|answer|response|bot|ai|a) *:")


def format_signs(run, rows: list[FedRow]):
    """Signs that rows were trained in another chat format than the tokenizer's template writes.

    Of texts and bare strings only, which the trainer feeds as they are; and only where the tokenizer has a
    template, without which nobody can ask in it. A text without turns is no question and counts as neither.
    """
    template, tokenizer = run.chat_template, run.tokenizer()
    if not template or tokenizer is None:
        return
    own = control_tokens(tokenizer)
    asks = asking_part(tokenizer)
    bare = [row for row in rows if is_bare(row)]
    if len(bare) < MOSTLY * len(rows):
        yield from in_messages(rows, f"{template} {' '.join(own)}")
        return
    found = [(row, foreign_format(row, own, template, asks)) for row in bare]
    foreign = [(row, name) for row, name in found if name]
    if len(foreign) < MOSTLY * len(bare):
        return
    row, name = foreign[0]
    asked = asked_in_chat(run)
    if not asked and name == "bare strings":
        run.notes.append(
            "The rows are bare strings, which the trainer feeds without the chat template: right only if the "
            "model is asked with bare strings, too."
        )
        return
    yield Sign(
        "template-mismatch",
        PROVES if asked else SUGGESTS,
        f"{len(foreign):,} of {len(rows):,} rows ({number(100 * len(foreign) / len(rows), 2)} %) are written "
        f"as {name}, and the tokenizer's template asks with {asks!r}"
        + (f"; the evaluation's rows are {asked}" if asked else ""),
        row.where,
    )


def is_bare(row: FedRow) -> bool:
    """Whether the trainer used no template on the row."""
    record = row.record
    return record is not None and (record.text is not None or not record.chat)


def asking_part(tokenizer) -> str:
    """What the template writes between a question and its answer, "<|im_end|>\n<|im_start|>assistant" say; ""
    where it cannot be told."""
    mark = "a question to be found again"
    try:
        asked = [{"role": "user", "content": mark}]
        text = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    except Exception:  # a template can raise anything
        return ""
    return text.rpartition(mark)[2].strip()


def foreign_format(row: FedRow, own: list[str], template: str, asks: str) -> str | None:
    """In which form a bare row is written, if it is not the template's; None for the template's own and for a
    text without turns.

    asks: see `asking_part`.
    """
    record = row.record
    text = record.text if record.text is not None else f"{record.prompt}{''.join(record.answers)}"
    if (asks and asks in text) or (not asks and any(token in text for token in own if token in template)):
        return None
    found = rendered_as(text)
    if found is not None and not set(found.opens) & set(own):
        return f"{found.name} turns"
    if ASKS.search(text) and ANSWERS.search(text):
        return "turns with roles written by hand"
    if record.text is None and (mark := wrapped_in(record.prompt, f"{template} {' '.join(own)}")):
        return mark
    return "bare strings" if record.text is None else None


def asked_in_chat(run) -> str:
    """In which form the evaluation's rows are, where that goes through the template; else ""."""
    records = run.records("eval")
    if records and all(one.text is None and one.chat for one in records[:100]):
        return "messages, which go through the template"
    return ""


def in_messages(rows: list[FedRow], own: str):
    """Messages whose contents hold another format's marks: the turns were rendered twice."""
    chats = [row for row in rows if row.record is not None and row.record.messages]
    marked = []
    for row in chats:
        found = next((f for m in row.record.messages if (f := wrapped_in(str(m.get("content")), own))), None)
        if found:
            marked.append((row, found))
    if chats and len(marked) >= MOSTLY * len(chats):
        row, found = marked[0]
        yield Sign(
            "template-mismatch",
            PROVES,
            f"{len(marked):,} of {len(chats):,} rows hold {found} inside their messages, around which the "
            "template writes its own turns",
            row.where,
        )
