"""Small chat tasks on messages to the shop, in chats of one to four questions.

None of them is the ticket task: no intent, no urgency, and never an object with the ticket's keys. They teach
the chat format, and to copy from the prompt.
"""

from __future__ import annotations

import json
import random
import re

from labsupport.pretraining.shop_messages import Message, Shop

NOTHING = "none"
# Other words than the ticket task's keys.
NAMES = {
    "product": ("item", "article", "thing"),
    "order": ("number", "reference", "ref"),
    "city": ("place", "town"),
    "day": ("weekday", "when"),
    "colour": ("colour", "shade"),
}
QUESTIONS = {
    "product": ("Which item is it about?", "Name the item.", "What did they buy?"),
    "order": ("Copy the order number.", "Which order number is given?", "What is the reference?"),
    "city": ("Which town is named?", "Name the town."),
    "day": ("Which weekday is named?", "Name the weekday."),
    "colour": ("Which colour is named?", "Name the colour."),
}
SYSTEMS = ("Answer from the message.", "Read the message, then answer.", "You read mail for a shop.")


def chat(shop: Shop, rng: random.Random) -> list[dict]:
    """One chat about one message: role and content of each turn."""
    message = shop.message()
    kind = rng.random()
    if kind < 0.2:
        return turns("Repeat the message.", message.text, message.text)
    if kind < 0.3:
        return continuation(message, rng)
    if kind < 0.6:
        return record(message, rng)
    return questions(message, rng)


def turns(system: str | None, *contents: str) -> list[dict]:
    """A system turn, if any, then user and assistant by turns."""
    result = [{"role": "system", "content": system}] if system else []
    return result + [
        {"role": ("user", "assistant")[i % 2], "content": content} for i, content in enumerate(contents)
    ]


def continuation(message: Message, rng: random.Random) -> list[dict]:
    """The beginning of a message, to be continued."""
    words = message.text.split(" ")
    cut = rng.randrange(1, max(2, len(words)))
    return turns("Continue the message.", " ".join(words[:cut]), " ".join(words[cut:]) or NOTHING)


def record(message: Message, rng: random.Random) -> list[dict]:
    """Some values of the message under names that the system turn gives, as lines or as a JSON object."""
    fields = rng.sample(list(NAMES), rng.randrange(2, 5))
    if rng.random() < 0.8:
        fields = ["product", "order", *[f for f in fields if f not in ("product", "order")]][: len(fields)]
        rng.shuffle(fields)
    names = [rng.choice(NAMES[field]) for field in fields]
    values = [getattr(message, field) for field in fields]
    if rng.random() < 0.3:
        names.append("words")
        values.append(len(message.text.split()))
    if rng.random() < 0.3:
        answer = "\n".join(f"{n}: {NOTHING if v is None else v}" for n, v in zip(names, values, strict=True))
        return turns("Lines with " + ", ".join(names), message.text, answer)
    separators = (",", ":") if rng.random() < 0.6 else (", ", ": ")
    answer = json.dumps(dict(zip(names, values, strict=True)), separators=separators, ensure_ascii=False)
    spaced = "" if separators == (",", ":") else "Spaced "
    return turns(f"{spaced}JSON with " + ", ".join(names), message.text, answer)


def questions(message: Message, rng: random.Random) -> list[dict]:
    """The message with a first question, then up to three more."""
    asked = [question(message, rng) for _ in range(rng.randrange(1, 5))]
    system = rng.choice((None, *SYSTEMS))
    first, *others = asked
    contents = [f"{message.text}\n{first[0]}", first[1]]
    for pair in others:
        contents += pair
    return turns(system, *contents)


def question(message: Message, rng: random.Random) -> tuple[str, str]:
    """A question about the message and its answer."""
    words = re.findall(r"[A-Za-z']+", message.text)
    draw = rng.random()
    if draw < 0.5:
        field = rng.choice(("product", "product", "order", "order", "city", "day", "colour"))
        return rng.choice(QUESTIONS[field]), getattr(message, field) or NOTHING
    if draw < 0.65:
        field = rng.choice(("product", "order"))
        named = {"product": "an item", "order": "an order number"}[field]
        return f"Does it name {named}?", "no" if getattr(message, field) is None else "yes"
    if draw < 0.75:
        word = rng.choice(words) if rng.random() < 0.5 else rng.choice(COMMON)
        return f'Does it have the word "{word}"?', "yes" if word in words else "no"
    if draw < 0.85:
        sentence = rng.choice(re.split(r"(?<=[.!?])\s+", message.text))
        return f'How does "{" ".join(sentence.split()[:2])}" go on?', sentence
    if draw < 0.95:
        at = rng.randrange(len(words) - 1) if len(words) > 1 else 0
        return f'Which word follows "{words[at]}"?', words[min(words.index(words[at]) + 1, len(words) - 1)]
    return rng.choice((("What is the first word?", words[0]), ("What is the last word?", words[-1])))


WORDS = "the and order please not size today it me with for new still would they back two"
COMMON = tuple(WORDS.split(" "))
