"""Messages to the shop, without the ticket task's answers: the raw material of small chat tasks.

They are filled from the families of the training split alone. In half of them the product series is a word
that does not exist, so that a product can only be copied and not known.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

import yaml

from labsupport.tasks import tickets, tickets_generator
from labsupport.tasks.tickets_generator import Family

INVENTED = 0.5  # of the messages have an invented product series
ONSETS = [
    *("b", "br", "c", "ch", "d", "dr", "f", "fl", "g", "gr", "h", "j", "k", "kl", "l", "m", "n", "p"),
    *("pl", "qu", "r", "s", "sh", "sk", "st", "t", "tr", "v", "w", "z"),
]
VOWELS = ["a", "e", "i", "o", "u", "ae", "ai", "ea", "ou", "y"]
ENDS = ["l", "n", "r", "s", "t", "m", "x", "ck", "ld", "ll", "nd", "ng", "rn", "st", "sk", "th"]


@dataclass(frozen=True)
class Message:
    """A text and what can be asked of it without reading it: each value stands in the text, or is None."""

    text: str
    product: str | None
    order: str | None
    city: str | None
    day: str | None
    colour: str | None


class Shop:
    """Draws messages; `rng` decides everything."""

    def __init__(self, rng: random.Random):
        self.rng = rng
        self.families: list[Family] = tickets_generator.split_families(random.Random(tickets_generator.SEED))[
            "train"
        ]
        text = (tickets.FOLDER / "slots.yaml").read_text(encoding="utf-8")
        self.slots = yaml.safe_load(text)
        self.taken = {name.lower() for name in self.slots["series"][1]}  # of the test split

    def message(self) -> Message:
        """One message of one family. The family's intent and urgency are dropped here."""
        slots = self.slots
        if self.rng.random() < INVENTED:
            slots = slots | {"series": [[self.invented_name()]]}
        row = tickets_generator.fill(self.rng.choice(self.families), self.rng, slots, test=False)
        found = {slot: self.mentioned(row["text"], self.slots[slot]) for slot in ("city", "day", "colour")}
        return Message(row["text"], row["product"], row["order_id"], **found)

    def invented_name(self) -> str:
        """A word of two or three syllables such as "Brouskal", never a series of the test split."""
        while True:
            syllables = [
                self.rng.choice(ONSETS) + self.rng.choice(VOWELS) for _ in range(self.rng.choice((1, 2, 2)))
            ]
            name = ("".join(syllables) + self.rng.choice(ENDS)).capitalize()
            if name.lower() not in self.taken:
                return name

    @staticmethod
    def mentioned(text: str, values: list[str]) -> str | None:
        """The first of the values that stands in the text as a word, in either case; as written there."""
        pattern = r"\b(" + "|".join(map(re.escape, values)) + r")\b"
        match = re.search(pattern, text, flags=re.IGNORECASE)
        return match[0] if match else None
