"""The cheap baseline: a regular expression, TF-IDF with logistic regression, and a word tagger.

No language model. It learns in seconds from the same rows and answers in milliseconds, so it is the
first number that a fine-tune has to beat. All learned parts are scikit-learn's.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np

from labsupport.tasks import tickets

# ---------------------------------------------------------------- order_id: a rule

# "RL-48213", "rl 48213", "RL/48213", "2024-RL-338", or five digits that nothing else explains.
ORDER_ID = re.compile(
    r"\b20\d\d-rl-\d+|\brl[-/ ]?\d{4,6}\b|(?<![\w.,+€£$/-])\d{5}(?![\w/-]|[.,]\d)", re.IGNORECASE
)
# What stands before a number that is not an order id (LABELLING.md: tracking, phone, invoice, article).
OTHER_NUMBER = re.compile(
    r"(tracking|phone|tel|mobile|call|ring|reach|text|invoice|article|art|item|voucher|gift card|customer|"
    r"member\w*|ticket|case|postcode|zip|serial)\W*((me|us|on|at|no|numbers?|nr|code|id|is)\W+)*$",
    re.IGNORECASE,
)


def order_id(text: str) -> str | None:
    """The first order id in a message as it is written there, or None. One with letters goes first."""
    found = list(ORDER_ID.finditer(text))
    lettered = [m[0] for m in found if "rl" in m[0].lower()]
    bare = [m[0] for m in found if not OTHER_NUMBER.search(text[: m.start()])]
    return next(iter(lettered or bare), None)


# ---------------------------------------------------------------- intent and urgency: TF-IDF


def text_features():
    """TF-IDF of words and word pairs and of 2 to 5 characters, of those that occur at least twice."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_union

    common = {"sublinear_tf": True, "min_df": 2}
    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\w+|[!?]", **common)
    return make_union(words, TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), **common))


def classifier(strength: float):
    """Logistic regression; strength is scikit-learn's C, the inverse of the L2 penalty."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, max_iter=1000, random_state=0)


# ---------------------------------------------------------------- product: a word tagger

WORD = re.compile(r"\w+(?:['’-]\w+)*")


def words_of(text: str) -> list[tuple[int, int]]:
    """(start, end) of each word of a text, in characters."""
    return [found.span() for found in WORD.finditer(text)]


def shape(word: str) -> str:
    """How a word is written: digits, capitals, a capital first, or lower case."""
    if word[0].isdigit():
        return "digit"
    return "capitals" if word.isupper() and len(word) > 1 else "capital" if word[0].isupper() else "lower"


def word_features(text: str, spans: list[tuple[int, int]], i: int) -> dict:
    """What the tagger knows of word i: itself, its neighbours, how they are written, what is between."""
    features = {}
    for step in (-3, -2, -1, 0, 1, 2):
        if 0 <= i + step < len(spans):
            start, end = spans[i + step]
            word = text[start:end]
            features[f"{step} word {word.lower().removesuffix('s')}"] = 1
            features[f"{step} shape {shape(word)}"] = 1
            features[f"{step} end {word[-3:].lower()}"] = 1
        else:
            features[f"{step} outside"] = 1
    if i and (between := text[spans[i - 1][1] : spans[i][0]]).strip():
        features[f"before {between.strip()[0]}"] = 1
    if i + 1 < len(spans) and (between := text[spans[i][1] : spans[i + 1][0]]).strip():
        features[f"after {between.strip()[0]}"] = 1
    return features


def words_in(texts: list[str]) -> list[dict]:
    """The features of every word of every text, one text after the other; one empty dict if there is none."""
    found = []
    for text in texts:
        spans = words_of(text)
        found += [word_features(text, spans, i) for i in range(len(spans))]
    return found or [{}]  # DictVectorizer refuses an empty list


def inside(rows: list[dict]) -> list[bool]:
    """Of every word of every row, whether it belongs to the product's name: what the tagger learns."""
    found = []
    for row in rows:
        begin = row["text"].find(row["product"]) if row["product"] else -1
        end = begin + len(row["product"] or "")
        found += [begin <= a and b <= end for a, b in words_of(row["text"])]
    return found


def chances(tags, texts: list[str], words) -> list[np.ndarray]:
    """For each text the tagger's probability, word by word, of belonging to the product's name.

    words: the vectorised features of all words of the texts, as a sparse matrix (words, features).
    """
    flat = tags.predict_proba(words)[:, 1]
    return np.split(flat, np.cumsum([len(words_of(text)) for text in texts])[:-1])


def product(text: str, chance: np.ndarray, threshold: float) -> str | None:
    """The run of words with the highest summed chance, each above `threshold`; None if there is none."""
    spans, best, name, start = words_of(text), 0.0, None, None
    for i in range(len(spans) + 1):
        inside = i < len(spans) and chance[i] > threshold
        if inside and start is None:
            start = i
        if not inside and start is not None:
            total = float(chance[start:i].sum())
            if total > best:
                best, name = total, text[spans[start][0] : spans[i - 1][1]]
            start = None
    return name


# ---------------------------------------------------------------- all four fields


THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.4)


@dataclass(frozen=True)
class Rules:
    """The fitted baseline; `settings` holds what validation chose."""

    features: object
    intent: object
    urgency: object
    vectorizer: object
    tags: object
    settings: dict

    def predict(self, texts: list[str]) -> list[dict]:
        """One label (a dict of the four fields) a message."""
        features = self.features.transform(texts)
        intents, urgencies = self.intent.predict(features), self.urgency.predict(features)
        all_chances = chances(self.tags, texts, self.vectorizer.transform(words_in(texts)))
        return [
            {
                "intent": str(intent),
                "product": product(text, chance, self.settings["threshold"]),
                "order_id": order_id(text),
                "urgency": str(urgency),
            }
            for text, chance, intent, urgency in zip(texts, all_chances, intents, urgencies, strict=True)
        ]


def fit(train: list[dict], validation: list[dict], strengths=(1, 10, 100)) -> Rules:
    """Learn from `train`; penalties (scikit-learn's C) and threshold are those best on `validation`."""
    from sklearn.feature_extraction import DictVectorizer

    texts, held_out = [row["text"] for row in train], [row["text"] for row in validation]
    features = text_features()
    known, unseen = features.fit_transform(texts), features.transform(held_out)
    chosen, settings = {}, {}
    for field in ("intent", "urgency"):
        answers, wanted = [row[field] for row in train], [row[field] for row in validation]
        models = {c: classifier(c).fit(known, answers) for c in strengths}
        shares = {c: model.score(unseen, wanted) for c, model in models.items()}
        settings[field] = max(shares, key=shares.get)
        chosen[field] = models[settings[field]]
    vectorizer = DictVectorizer()
    words, is_inside = vectorizer.fit_transform(words_in(texts)), inside(train)
    unseen_words = vectorizer.transform(words_in(held_out))
    best = -1.0
    for strength in strengths:
        # A logistic regression that says of each word whether it belongs to the product's name.
        tags = classifier(strength).fit(words, is_inside)
        all_chances = chances(tags, held_out, unseen_words)
        for threshold in THRESHOLDS:
            found = [product(t, c, threshold) for t, c in zip(held_out, all_chances, strict=True)]
            right = np.mean([f == row["product"] for f, row in zip(found, validation, strict=True)])
            if right > best:
                best, tags_chosen = right, tags
                settings |= {"product": strength, "threshold": threshold}
    return Rules(features, chosen["intent"], chosen["urgency"], vectorizer, tags_chosen, settings)


def majority(rows: list[dict]) -> dict:
    """For each field its commonest value in `rows`; null counts as a value."""
    return {field: Counter(row[field] for row in rows).most_common(1)[0][0] for field in tickets.FIELDS}
