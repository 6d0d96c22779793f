"""What a master says of its notebook at its head: title, one sentence, minutes, and its exercises' minutes.

The contents page and the links between notebooks are made of this, so that nothing is written twice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from labsupport.core.files import ROOT, read_text

SOLUTIONS = ROOT / "solutions"

TITLE = re.compile(r"^# # \d\d · (.+)$", re.MULTILINE)
SENTENCE = re.compile(r"^# \*\*In one sentence\*\*: (.+?)\n#\s*$", re.MULTILINE | re.DOTALL)
MINUTES = re.compile(r"^# \*\*Minutes\*\*: (\d+) to read and do, (\d+) to run all cells\.$", re.MULTILINE)
EXERCISE = re.compile(r"^# > \*\*(\d+) minutes? · [●○]{3}\*\*", re.MULTILINE)
LONGEST_SENTENCE = 160  # characters: two lines of the contents page


@dataclass(frozen=True)
class Head:
    """name: "02_lora_math"; reading and running: minutes."""

    name: str
    title: str
    sentence: str
    reading: int | None
    running: int | None

    @property
    def label(self) -> str:
        """02 The mathematics of LoRA; the name for want of a title."""
        return f"{self.name[:2]} {self.title}" if self.title else self.name


def masters(folder: Path = SOLUTIONS) -> list[Path]:
    """The masters in course order."""
    return sorted(folder.glob("[0-9][0-9]_*.py"))


def of(master: Path) -> Head:
    """The head of a master; what it does not say is "" or None (see `faults`)."""
    text = read_text(master)
    title, sentence, minutes = TITLE.search(text), SENTENCE.search(text), MINUTES.search(text)
    words = " ".join(sentence[1].replace("\n#", " ").split()) if sentence else ""
    reading, running = (int(minutes[1]), int(minutes[2])) if minutes else (None, None)
    return Head(master.stem, title[1] if title else "", words, reading, running)


def faults(master: Path) -> list[str]:
    """What the contents page misses in a master's head, a phrase each."""
    head, found = of(master), []
    if not head.title:
        found.append("has no title of the form `# 02 · The mathematics of LoRA`")
    if not head.sentence:
        found.append("has no line `**In one sentence**: ….` with an empty line after it")
    elif len(head.sentence) > LONGEST_SENTENCE:
        found.append(f"says in {len(head.sentence)} characters what it gives; {LONGEST_SENTENCE} are allowed")
    if head.reading is None:
        return [*found, "has no line `**Minutes**: 60 to read and do, 1 to run all cells.`"]
    needed = sum(map(int, EXERCISE.findall(read_text(master))))
    if head.reading < needed:
        found.append(f"promises {head.reading} minutes, and its exercises alone have {needed}")
    return found
