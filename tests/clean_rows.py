"""Rows without a fault, for the tests of `preflight`: a garden centre's advice, no two of them alike."""

from __future__ import annotations

import random

PLANTS = (
    "lavender hedge", "dwarf apple tree", "climbing rose", "potted lemon", "tomato seedling", "rhubarb crown",
    "blueberry bush", "peace lily", "bamboo screen", "row of leeks", "strawberry bed", "fig against the wall",
    "patch of mint", "hydrangea", "bonsai juniper", "maidenhair fern", "pear espalier", "clump of daylilies",
    "courgette", "Boston ivy", "basil on my windowsill", "raised bed of carrots", "young walnut",
    "wisteria", "heather slope", "kale", "moth orchid", "aloe", "raspberry", "box topiary",
)  # fmt: skip
TROUBLES = (
    (
        "has brown edges on every second leaf",
        "Brown edges mostly mean that salt or drought reached the roots",
    ),
    ("drops its buds before they open", "Buds fall when nights are cold and days are warm"),
    (
        "was eaten overnight by something small",
        "Feeding at night points to slugs, which hide under boards by day",
    ),
    ("grows tall and thin and falls over", "Thin growth is a search for light"),
    ("has sticky drops under the leaves", "Sticky drops come from aphids or scale insects above them"),
    ("stopped growing three weeks ago", "A pause in June is often nothing but heat"),
    ("turned yellow from the bottom up", "Yellow old leaves show that nitrogen moved to the new ones"),
    ("wilts at noon although the soil is wet", "Wilting in wet soil means that the roots lack air"),
    ("shows white powder after the rain", "The powder is mildew, a fungus that likes still air"),
    ("has not flowered since we moved house", "Plants that were moved put two seasons into roots"),
    ("came back with tiny leaves this spring", "Tiny leaves tell of a winter that reached the wood"),
    ("is full of ants along the stem", "Ants farm aphids and do no harm of their own"),
)
OPENINGS = (
    "My {plant} {trouble}. {ask}", "{ask} The {plant} {trouble}, and I do not want to lose it.",
    "Since last week the {plant} {trouble}. {ask}", "Good morning! {ask} Our {plant} {trouble}.",
    "The {plant} that I bought from you {trouble}. {ask}", "A neighbour's {plant} {trouble}. {ask}",
    "{ask} I ask because my {plant} {trouble}.", "In the shady corner our {plant} {trouble}. {ask}",
)  # fmt: skip
ASKS = (
    "What should I do first?", "Is it too late to save it?", "Do I need to dig it up?",
    "Which feed would help?",
    "Should I cut it back now?", "How much water is right?", "Can it stay where it is?",
    "Is that a disease or just the weather?", "Could it infect the others?", "How soon would I see a change?",
)  # fmt: skip
STEPS = (
    "Water it deeply once a week rather than a little each day",
    "Loosen the soil with a fork to a hand's depth",
    "Cut the worst third away with clean shears", "Spread two fingers of compost, but keep it off the stem",
    "Move it where it gets the sun until noon", "Wash the leaves from below with plain lukewarm water",
    "Put a saucer of beer beside it at dusk", "Lay fleece over it when frost is forecast",
    "Tie it to a stake with a loose figure of eight", "Repot it into a pot that is one size larger",
    "Leave it alone for a fortnight and look again", "Rake up the fallen leaves and do not compost them",
    "Feed it with potash as soon as the buds show", "Open the greenhouse on both sides in the morning",
    "Set a board on bricks so that surplus water can run off", "Mix a bucket of grit into the planting hole",
)  # fmt: skip
REASONS = (
    "the roots reach further than the branches", "most of what you see above began below the ground",
    "young wood heals within a month", "a plant under stress takes up no feed", "dry air is its real enemy",
    "clay holds water for days", "the crown must never stand in a puddle",
    "new shoots tell you more than old ones",
    "late frost does more harm than a hard winter", "hedgehogs and toads do the rest for nothing",
    "too much feed burns the fine roots", "it will flower on this year's shoots",
    "bees visit it until October",
    "our soil here is rather sour", "the variety was bred for the coast",
    "rain washes the minerals out of sand",
)  # fmt: skip
ENDINGS = (
    "Come by with a leaf if that does not help.", "You should see a difference by the end of the month.",
    "Next spring it will thank you.", "Anything that is still brown in May can go.", "That is all it needs.",
    "A photo taken in daylight would tell us more.", "Otherwise give it time.", "Repeat that after ten days.",
)  # fmt: skip


def clean_rows(n: int, seed: int = 0) -> list[dict]:
    """n rows as messages of prompt and completion; the same ones for the same seed."""
    rng = random.Random(seed)
    rows = {}
    while len(rows) < n:
        row = clean_row(rng)
        rows[row["prompt"][0]["content"]] = row
    return list(rows.values())


def clean_row(rng: random.Random) -> dict:
    """One row: a question on a plant, and three to five sentences of advice."""
    trouble, cause = rng.choice(TROUBLES)
    plant = rng.choice(PLANTS)
    question = rng.choice(OPENINGS).format(plant=plant, trouble=trouble, ask=rng.choice(ASKS))
    steps = rng.sample(STEPS, rng.randint(2, 3))
    reasons = rng.sample(REASONS, len(steps))
    middle = [
        rng.choice(("{}, because {}.", "{}: {}.", "{}. Remember that {}.")).format(step, reason)
        for step, reason in zip(steps, reasons, strict=True)
    ]
    return row_of(question, " ".join([f"{cause}.", *middle, rng.choice(ENDINGS)]))


def row_of(prompt: str, answer: str) -> dict:
    """A row as messages of prompt and completion."""
    return {
        "prompt": [{"role": "user", "content": prompt}],
        "completion": [{"role": "assistant", "content": answer}],
    }
