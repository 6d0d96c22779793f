"""A copy of the rows in which is mended what needs no judgement, and a list of all that was changed."""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from labsupport.core.files import LabError, cannot_write, check_output, short, unused_beside
from labsupport.training_data.forms import Form, is_missing
from labsupport.training_data.messages import role_named
from labsupport.training_data.record import Record, content_of
from labsupport.training_data.text_faults import cleaned, faults_of

ROLES = {"system", "developer", "user", "assistant", "tool", "function", "ipython"}
LAYERS = 3  # under one fault another may show: text that went through a wrong encoding twice
READ_BY_TRL = {"messages", "prompt", "completion", "text", "conversations"}


@dataclass
class Changes:
    """What was done. out, listed: the copy, and the list of changes beside it. rows, written: rows read and
    written; mended, dropped: how many changes of texts, and how many rows left out, by rule."""

    out: Path
    listed: Path
    form: str
    rows: int = 0
    written: int = 0
    mended: Counter = field(default_factory=Counter)
    dropped: Counter = field(default_factory=Counter)

    def in_words(self) -> str:
        """One or two sentences for a report."""
        parts = [f"{count:,} {rule}" for rule, count in sorted(self.mended.items())]
        gone = [f"{count:,} {rule}" for rule, count in sorted(self.dropped.items())]
        said = f"{short(self.out)}: {self.written:,} of {self.rows:,} rows, as {self.form}"
        said += f"; mended: {', '.join(parts) or 'nothing'}; left out: {', '.join(gone) or 'nothing'}."
        return said + (f" Each change is listed in {short(self.listed)}." if parts or gone else "")


def fix(
    records: Iterable[Record],
    out: Path,
    form: Form,
    leaks: Callable[[Record], bool] = lambda record: False,
    inputs: Iterable[Path] = (),
) -> Changes:
    """Write the mended rows to `out` as JSON Lines, and each change to `out` + ".changes.jsonl".

    Texts are cleaned where a fault was found, roles get the names that templates know, empty turns at the end
    go. Rows go that cannot be read, have no answer, stand there twice (the first is kept), or leak. What TRL
    does not read becomes messages or prompt and completion. leaks: whether a row stands in the evaluation.
    inputs: files that must not be written over. Raises LabError, with old files untouched, where the disk is
    full or no row is left.
    """
    changes = Changes(out, listed_beside(out), "")
    check_out(out, inputs)
    seen: set[int] = set()
    with written_at_the_end(out, changes.listed) as (rows, list_of_changes):
        for record in records:
            changes.rows += 1
            if record.faults:
                row, done, reason = None, [], "unreadable-row"
            else:
                changes.form = changes.form or form_written(form, record)
                row, done = mended(record, form, changes.form)
                reason = reason_to_drop(record, row, seen, leaks, form.columns.get("text", "text"))
            if reason:
                changes.dropped[reason] += 1
                done = [(reason, record.raw, None)]
            else:
                changes.mended.update(rule for rule, _, _ in done)
                changes.written += 1
                rows.write(line(row))
            for rule, before, after in done:
                said = {"row": record.number, "where": record.where, "rule": rule}
                list_of_changes.write(line(said | {"before": before, "after": after}))
        if not changes.written:
            raise LabError(f"Nothing was written to {short(out)}: no row would be left. See the findings.")
    return changes


def check_out(out: Path, inputs: Iterable[Path]) -> None:
    """LabError for a name that is taken by what must stay, or says another format."""
    check_output(out, "--fix", inputs)
    check_output(listed_beside(out), "--fix", inputs)
    if out.suffix.lower() not in (".jsonl", ".ndjson"):
        raise LabError(f"--fix writes JSON Lines: name the file {out.stem or 'fixed'}.jsonl, not {out.name}.")


def listed_beside(out: Path) -> Path:
    """Where the list of changes to a copy stands."""
    return out.with_name(out.name + ".changes.jsonl")


def form_written(form: Form, first: Record) -> str:
    """The form of the copy: the data's own where TRL reads it."""
    if form.name == "alpaca" or form.renamed:
        return "prompt and completion messages"
    if form.name == "prompt_completion":
        return "prompt and completion messages" if first.chat else "prompt and completion"
    return "messages" if form.name == "sharegpt" else form.name


def reason_to_drop(record: Record, row: dict | None, seen: set[int], leaks, text: str) -> str:
    """The rule by which a row is left out, "" for one that stays. text: the column that holds a text."""
    if row is None:
        return "mixed-forms"
    if not any(has_something(row.get(column)) for column in ("messages", "completion", text)):
        return "no-answer"
    if leaks(record):
        return "evaluation-leak"
    key = said_by(row, text)
    if key in seen:
        return "duplicate-rows"
    seen.add(key)
    return ""


def has_something(value) -> bool:
    """Whether a text is not blank, or an assistant says or calls something."""
    if isinstance(value, str):
        return bool(value.strip())
    return any(one.get("role") == "assistant" and not is_empty(one) for one in value or ())


def is_empty(message: dict) -> bool:
    return not (content_of(message).strip() or message.get("tool_calls") or message.get("function_call"))


def said_by(row: dict, text: str) -> int:
    """A hash of what the trainer reads of a row, spacing aside."""
    said = [spaced(row.get(column)) for column in ("messages", "prompt", "completion", text, "tools")]
    written = json.dumps(said, default=str, sort_keys=True)
    return int.from_bytes(blake2b(written.encode(), digest_size=8).digest())


def spaced(value):
    """The value with single spaces in its texts."""
    if isinstance(value, str):
        return " ".join(value.split())
    if isinstance(value, list):
        return [spaced(one) for one in value]
    return {key: spaced(one) for key, one in value.items()} if isinstance(value, dict) else value


# ---------------------------------------------------------------- one row


def mended(record: Record, form: Form, written: str) -> tuple[dict | None, list[tuple]]:
    """The row as it is written, None where it cannot have that form; the changes: (rule, before, after)."""
    done: list[tuple] = []
    text = form.columns.get("text", "text")
    read = READ_BY_TRL if text == "text" else READ_BY_TRL - {"text"}  # the settings name another column
    rest = {
        key: value
        for key, value in record.raw.items()
        if key not in read and key not in form.columns.values() and not is_missing(value)
    }
    if record.form != form.name:
        rest = {}
        done.append(("mixed-forms", record.form, written))
    kinds = {kind for kind, _ in faults_of(record.whole)}
    if written == "text" or record.text is not None:
        both = written == "text" and record.text is not None
        return ({text: mended_text(record.text, kinds, done), **rest} if both else None), done
    messages = [mended_message(message, kinds, done) for message in record.messages]
    asked = len(messages) - 1 if record.completion_from is None else record.completion_from
    while len(messages) > 1 and messages[-1]["role"] in ("user", "assistant") and is_empty(messages[-1]):
        gone = messages.pop()
        done.append(("empty-turn", gone, None))
    if written == "messages":
        return {"messages": messages, **rest}, done
    prompt, completion = messages[:asked], messages[asked:]
    if written == "prompt and completion messages":
        return {"prompt": prompt, "completion": completion, **rest}, done
    if record.chat:  # bare texts are wanted: a chat template's work cannot be done here
        return None, done
    texts = ["".join(map(content_of, part)) for part in (prompt, completion)]
    return dict(zip(("prompt", "completion"), texts, strict=True)) | rest, done


def mended_message(message: dict, kinds: set[str], done: list[tuple]) -> dict:
    """The message with a role that templates know and a clean content."""
    role = message["role"]
    known = role_named(role)
    if known != role and known in ROLES:
        done.append(("unknown-role", role, known))
        message = message | {"role": known}
    content = message.get("content")
    return message | {"content": mended_text(content, kinds, done)} if isinstance(content, str) else message


def mended_text(text: str, kinds: set[str], done: list[tuple]) -> str:
    """The text without the faults that can be taken out. kinds: what was found in the whole row; what looks
    like a fault only by itself stays, such as &amp; in the answer to a question about HTML."""
    found = [kind for kind, _ in faults_of(text)] if kinds else []
    if not found or not kinds.issuperset(found) or (clean := cleaned(text)) == text:
        return text
    for _ in range(LAYERS):
        clean = cleaned(clean)
    left = {kind for kind, _ in faults_of(clean)}
    done += [(kind, text, clean) for kind in found if kind not in left]
    return clean


# ---------------------------------------------------------------- writing


def line(row: dict) -> bytes:
    """A row as a line of JSON. Half a character, which UTF-8 cannot hold, is written as \\ud83d."""
    try:
        return (json.dumps(row, ensure_ascii=False, default=str) + "\n").encode()
    except UnicodeEncodeError:
        return (json.dumps(row, default=str) + "\n").encode()


@contextlib.contextmanager
def written_at_the_end(*paths: Path):
    """Open files, which take their places only when the block ends well; else all is as it was."""
    scratch: list[Path] = []
    at = paths[0]
    try:
        with contextlib.ExitStack() as files:
            opened = []
            for at in paths:
                scratch.append(unused_beside(at))
                opened.append(files.enter_context(scratch[-1].open("xb")))
            yield opened
            for at, file in zip(paths, opened, strict=True):  # noqa: B007 (named where it fails)
                file.flush()
                os.fsync(file.fileno())
        for at, beside in zip(paths, scratch, strict=True):
            beside.replace(at)
    except OSError as error:
        raise cannot_write(at, error) from error
    finally:
        for beside in scratch:
            beside.unlink(missing_ok=True)
