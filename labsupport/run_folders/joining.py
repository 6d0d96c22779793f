"""Replies and the evaluation's rows, brought together by their ids."""

from __future__ import annotations

from pathlib import Path

from labsupport.core.files import LabError, short
from labsupport.core.numbers import shown


def joined(said: list[dict], rows: list[dict] | None, files: dict[str, Path], asked: bool, notes: list[str]):
    """The replies, checked: dicts with id and reply, in their order. None, with a note, where the folder has
    replies and no evaluation rows. LabError for replies or rows without ids, an id that two rows have, a
    reply to no row, and named replies (`asked`) without the rows."""
    path = files["replies"]
    for number, one in enumerate(said, start=1):
        if "id" not in one or not isinstance(one.get("reply"), str):
            lacks = "id" if "id" not in one else "reply (a text)"
            raise LabError(
                f'{short(path)}, row {number} has no {lacks}: write {{"id": ..., "reply": ...}} a line, with '
                "the id of the evaluation row."
            )
    if rows is None:
        if asked:
            raise LabError(f"{short(path)} holds replies, to which rows is not known: give --eval FILE.")
        notes.append("Not checked: the replies, because the rows they answer are missing (give --eval FILE).")
        return None
    check_ids(rows, files["eval"])
    known = {row["id"] for row in rows}
    for number, one in enumerate(said, start=1):
        if one["id"] not in known:
            raise LabError(
                f"{short(path)}, row {number} answers id {shown(one['id'])}, which no row of "
                f"{short(files['eval'])} has: give the evaluation that the replies are for."
            )
    if len({one["id"] for one in said}) < len(rows):
        notes.append(f"Replies: {len(said):,} for the {len(rows):,} rows of the evaluation.")
    return [{"id": one["id"], "reply": one["reply"]} for one in said]


def check_ids(rows: list[dict], path: Path) -> None:
    """LabError unless each row has an id of its own."""
    seen = {}
    for number, row in enumerate(rows, start=1):
        one = row.get("id")
        if not isinstance(one, (str, int)):
            raise LabError(
                f'{short(path)}, row {number} has no "id": replies are joined with the rows by it. Give each '
                "row an id, and write the same into the replies."
            )
        if one in seen:
            raise LabError(f"{short(path)}: rows {seen[one]} and {number} both have the id {shown(one)}.")
        seen[one] = number
