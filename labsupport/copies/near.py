"""Rows that say nearly the same: MinHash proposes pairs, the words of both decide.

Rows made from one template also share most of their words, and teach different things. So what many rows
share does not count in the proposal (RARE), and of two rows that differ in a number, in a short answer or in
more than a few words at one place neither is a copy of the other.
"""

from __future__ import annotations

import re
import zlib
from array import array
from hashlib import blake2b
from itertools import pairwise

# A word, one character of a script without spaces, or a sign that changes what a formula says.
DENSE = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
SIGN = "[-+*/=<>^%]"
WORD = re.compile(f"[{DENSE}]|[^\\W{DENSE}]+|{SIGN}")
ASCII_WORD = re.compile(f"[a-z0-9_]+|{SIGN}")
NUMBER = re.compile(r"\d+")
KNOWN_WORDS = 100_000
PART = 96  # words kept of a prompt and of an answer: the first half of them and the last
RARE = 5  # rows: three words in a row that more of them share belong to a template or to the language
PERMUTATIONS = 128
BANDS = 32  # of four values each: proposes 87 of 100 pairs that share half of their rare words
MOST_IN_A_BUCKET = 40  # what more rows share in all four values is no copy of one row
ALIKE = 0.8  # of the words of two copies, in each part
ALIKE_SHORT = 0.9  # of the prompts, where the answer is short: a label has many such prompts
CHANGED = 4  # pairs of neighbouring words in a row that the copy lacks: up to three changed words
SHORT = 15  # words: a shorter answer is a label or a value, and a copy has the same one
ENOUGH_SAME = 8  # words of a row that has the same words as another, in other case or punctuation
ENOUGH = 20  # words of a whole row: for less, people often find the same words
AT_ONCE = 20_000  # rows turned into signatures together
BUCKETS = 1 << 27  # in which sequences are counted; a byte each


def words_of(text: str) -> list[str]:
    """The words, in lower case; punctuation and spaces are gone."""
    if text.isascii():
        return ASCII_WORD.findall(text.lower())
    return WORD.findall(text.casefold())


class Hashes(dict):
    """Hashes of words in four bytes; common words are found instead of computed."""

    def __missing__(self, word: str) -> int:
        value = zlib.crc32(word.encode("utf-8", "replace"))
        if len(self) < KNOWN_WORDS:
            self[word] = value
        return value


class Rows:
    """What is kept of rows to compare them: about four bytes a word, at most 2 x PART words a row."""

    def __init__(self):
        self.known = Hashes()
        self.words = array("I")  # hashes of the words, prompt and answer of one row after the other
        self.ends = array("Q", [0])  # where in `words` each part ends; two parts a row
        self.numbers = array("I")  # hash of all numbers of the row
        self.answers = array("Q")  # hash of a short answer; 0 for a longer one
        self.wholes = array("Q")  # hash of the words kept; 0 for a row of very few

    def __len__(self):
        return len(self.numbers)

    def add(self, prompt: str, answer: str, prompt_words: list[str] | None = None) -> None:
        """Keep a row. A text without prompt and answer is all answer."""
        said = words_of(answer)
        for words in (words_of(prompt) if prompt_words is None else prompt_words, said):
            kept = words if len(words) <= PART else words[: PART // 2] + words[-PART // 2 :]
            self.words.extend([self.known[word] for word in kept])
            self.ends.append(len(self.words))
        kept = self.words[self.ends[-3] :]
        whole = blake2b(kept.tobytes(), salt=str(len(said)).encode()[:16], digest_size=8).digest()
        self.wholes.append(int.from_bytes(whole, "little") if len(kept) >= ENOUGH_SAME else 0)
        numbers = sorted(NUMBER.findall(prompt) + NUMBER.findall(answer))
        self.numbers.append(zlib.crc32(" ".join(numbers).encode()))
        exact = len(said) < SHORT or answer.lstrip()[:1] in ("{", "[")
        self.answers.append(zlib.crc32(" ".join(said).encode("utf-8", "replace")) + 1 if exact else 0)

    def part(self, row: int, which: int):
        """The words of a row's prompt (0) or answer (1), as hashes."""
        start, end = self.ends[2 * row + which], self.ends[2 * row + which + 1]
        return self.words[start:end]

    def are_copies(self, one: int, other: int) -> bool:
        """Whether two rows are the same but for a few words."""
        if self.numbers[one] != self.numbers[other] or self.answers[one] != self.answers[other]:
            return False
        least = ALIKE_SHORT if self.answers[one] else ALIKE
        return all(alike(self.part(one, which), self.part(other, which), least) for which in (0, 1))


def alike(one, other, least: float = ALIKE) -> bool:
    """Whether two sequences of words are the same but for a few of them."""
    if one == other:
        return True
    mine, others = set(one), set(other)
    if len(mine & others) < least * len(mine | others):
        return False
    mine, others = list(pairwise(one)), list(pairwise(other))
    return longest_run(mine, set(others)) <= CHANGED and longest_run(others, set(mine)) <= CHANGED


def longest_run(pairs, known: set) -> int:
    """The most neighbours in a row that are not known."""
    longest = run = 0
    for pair in pairs:
        run = 0 if pair in known else run + 1
        longest = max(longest, run)
    return longest


def near_pairs(rows: Rows) -> tuple[list[tuple[int, int]], set[int]]:
    """Pairs (lower, higher) of rows that are copies of each other but for a few words, equal ones among them;
    and the rows that only resemble another, as rows from one template or about one text do.

    MinHash is known to `band_hashes` alone.
    """
    import numpy as np

    bands = band_hashes(rows)
    proposed = set()
    for column in range(BANDS):
        order = np.argsort(bands[:, column], kind="stable")
        ranked = bands[order, column]
        edges = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1])) if len(ranked) else order
        sizes = np.diff(np.append(edges, len(ranked)))
        for start, size in zip(edges[sizes > 1], sizes[sizes > 1], strict=True):
            bucket = order[start : start + size].tolist()
            if ranked[start] and size <= MOST_IN_A_BUCKET:
                proposed.update((bucket[0], row) for row in bucket[1:])
                proposed.update(pairwise(bucket))
    copies = [pair for pair in proposed if rows.are_copies(*pair)]
    same = [group.tolist() for group in equal_groups(np.asarray(rows.wholes)) if rows.wholes[group[0]]]
    copies = sorted({*copies, *((group[0], row) for group in same for row in group[1:])})
    return copies, {row for pair in proposed.difference(copies) for row in pair}


def equal_groups(hashes) -> list:
    """Indices of equal hashes, a group each, in the order of their first; what occurs once is left out."""
    import numpy as np

    order = np.argsort(hashes, kind="stable")
    ranked = hashes[order]
    edges = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1])) if len(ranked) else order
    sizes = np.diff(np.append(edges, len(ranked)))
    several = sizes > 1
    groups = [order[edge : edge + size] for edge, size in zip(edges[several], sizes[several], strict=True)]
    return sorted(groups, key=lambda group: group[0])


def band_hashes(rows: Rows):
    """uint64 (rows, BANDS): equal values propose a pair; 0 for a row that is too short to say."""
    import numpy as np
    from rensa import RMinHash

    counts = np.zeros(BUCKETS, dtype=np.uint8)
    for _, sequences, _ in batches(rows):
        buckets, times = np.unique(sequences % BUCKETS, return_counts=True)
        counts[buckets] = np.minimum(counts[buckets] + times, 255)
    bands = np.zeros((len(rows), BANDS), dtype=np.uint64)
    factors = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 1], dtype=np.uint64)
    for first, sequences, owners in batches(rows):
        rare = counts[sequences % BUCKETS] <= RARE
        kept, owners = sequences[rare], owners[rare]
        size = min(AT_ONCE, len(rows) - first)
        offsets = np.searchsorted(owners, np.arange(size + 1)).astype(np.uint64)
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(kept, offsets, PERMUTATIONS, 0)
        signatures = np.array(matrix.to_rows(), dtype=np.uint64).reshape(size, BANDS, -1)
        bands[first : first + size] = (signatures * factors).sum(axis=2, dtype=np.uint64)
        lengths = np.diff(np.asarray(rows.ends)[2 * first : 2 * (first + size) + 1 : 2])
        bands[first : first + size][(np.diff(offsets) == 0) | (lengths < ENOUGH)] = 0
    return bands


def batches(rows: Rows):
    """AT_ONCE rows each: the number of the first, hashes of three words in a row, and whose each is."""
    import numpy as np

    ends, words = np.asarray(rows.ends), np.asarray(rows.words)
    for first in range(0, len(rows), AT_ONCE):
        size = min(AT_ONCE, len(rows) - first)
        borders = ends[2 * first : 2 * (first + size) + 1]
        span = words[borders[0] : borders[-1]].astype(np.uint64)
        parts = np.repeat(np.arange(2 * size), np.diff(borders).astype(np.int64))
        sequences = span[:-2] * np.uint64(0x9E3779B97F4A7C15) ^ span[1:-1] * np.uint64(0xC2B2AE3D27D4EB4F)
        sequences = (sequences ^ span[2:]) * np.uint64(0xD6E8FEB86659FD93)
        sequences ^= sequences >> np.uint64(32)
        inside = parts[:-2] == parts[2:]
        yield first, sequences[inside], parts[:-2][inside] // 2
