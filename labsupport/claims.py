"""Sentences about what was measured: stated with a check that says whether they hold here."""

from __future__ import annotations

import os


def expect(statement: str, holds: bool, detail: str = "") -> None:
    """Print whether the statement holds in this run.

    A bigger model may differ, so a failed one only raises AssertionError under LAB_STRICT=1 (the
    tests). TypeError if `holds` is not a single python, numpy or torch bool.
    """
    value = holds.item() if getattr(holds, "shape", None) == () else holds
    if not isinstance(value, bool):
        shape = getattr(holds, "shape", None)
        what = f"{type(holds).__name__} of shape {tuple(shape)}" if shape else repr(holds)
        raise TypeError(f"expect({statement!r}): holds must be True or False, not {what}.")
    sentence = f"{statement} ({detail})" if detail else statement
    print(f"{'holds' if value else 'differs here'}: {sentence}")
    if not value and os.environ.get("LAB_STRICT") == "1":
        raise AssertionError(f"differs here: {sentence}")
