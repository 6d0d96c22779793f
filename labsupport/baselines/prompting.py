"""The prompts of the baselines that train nothing: wordings, fixed examples, retrieved examples.

A prompt is a list of token ids. prompt_scoring.py runs them.
"""

from __future__ import annotations

from labsupport.tasks import tickets

INTENT_MEANINGS = {
    "delivery": "where an order is or when it comes, tracking, courier, marked delivered but not received",
    "return": "send back a good item for the money, or a refund under way",
    "exchange": "swap a good item for another size, colour or model",
    "defect": "broken, faulty, worn out, wrong or incomplete item",
    "change": "alter or cancel an order that has not arrived",
    "question": "asks about a product or the shop, no problem with an order",
    "payment": "charge, invoice, voucher, discount, gift card, price, failed payment",
    "account": "login, password, e-mail address, profile, newsletter, points, stored data",
}
URGENCY_MEANINGS = {
    "low": "the customer says it can wait",
    "normal": "everything else; anger is not urgency",
    "high": "needed within about a week, or says urgent, or danger",
}


def wordings() -> dict[str, str]:
    """The system prompts tried: the course's short one, and two that list every value with its meaning."""
    intents = "\n".join(f"- {value}: {INTENT_MEANINGS[value]}" for value in tickets.INTENTS)
    urgencies = "\n".join(f"- {value}: {URGENCY_MEANINGS[value]}" for value in tickets.URGENCIES)
    values = (
        f"intent, what the customer wants done, one of:\n{intents}\n"
        "product: the item, copied from the message without size, colour or article, or null\n"
        "order_id: the order number as written in the message, or null\n"
        f"urgency, one of:\n{urgencies}"
    )
    form = '{"intent":"...","product":...,"order_id":...,"urgency":"..."}'
    return {
        "short": tickets.SYSTEM_PROMPT,
        "values": f"You label messages to a shop. Reply with one line of JSON and nothing else.\n{values}",
        "values and form": (
            f"Read the customer's message and fill in this JSON:\n{form}\n{values}\n"
            "Write only the JSON, without spaces or explanation."
        ),
    }


# ---------------------------------------------------------------- prompts


def prompt_ids(tokenizer, system: str, shots: list[dict], text: str) -> list[int]:
    """Token ids of system prompt, examples as earlier turns, the message, and the assistant's opening."""
    messages = [{"role": "system", "content": system}]
    for row in shots:
        messages.append({"role": "user", "content": row["text"]})
        messages.append({"role": "assistant", "content": tickets.answer(row)})
    messages.append({"role": "user", "content": text})
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]


def fixed_shots(train: list[dict], k: int) -> list[dict]:
    """k short training rows for every message: intents in turn, and within an intent unlike urgencies.

    Short, because every example lengthens every prompt. The choice uses training rows only.
    """
    chosen: list[dict] = []
    for i in range(k):
        intent = tickets.INTENTS[i % len(tickets.INTENTS)]
        urgency = ("normal", "high", "low")[i % 3]
        left = [r for r in train if r["intent"] == intent and r not in chosen]
        preferred = [r for r in left if r["urgency"] == urgency and (r["product"] or r["order_id"])]
        chosen.append(min(preferred or left, key=lambda r: len(r["text"])))
    return chosen


def nearest_shots(train: list[dict], texts: list[str], k: int) -> list[list[dict]]:
    """For each text the k most similar training rows by TF-IDF cosine, the most similar one last.

    At most one row a family: near-copies of one example would teach the prompt nothing.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    known = vectorizer.fit_transform([row["text"] for row in train])
    similar = (vectorizer.transform(texts) @ known.T).toarray()  # rows have length 1: this is the cosine
    result = []
    for scores in similar:
        families: dict[str, dict] = {}
        for i in scores.argsort(kind="stable")[::-1]:
            families.setdefault(train[i]["family"], train[i])
            if len(families) == k:
                break
        result.append(list(families.values())[::-1])
    return result


def prompts(
    tokenizer, method: str, train: list[dict], rows: list[dict], wording: str, examples: int
) -> list[list[int]]:
    """One prompt a row. method: "zero_shot", "few_shot" or "retrieved"; examples: how many (k)."""
    system, texts = wordings()[wording], [row["text"] for row in rows]
    if method == "retrieved":
        shots = nearest_shots(train, texts, examples)
    else:
        shots = [fixed_shots(train, examples)] * len(rows)
    return [prompt_ids(tokenizer, system, own, text) for own, text in zip(shots, texts, strict=True)]
