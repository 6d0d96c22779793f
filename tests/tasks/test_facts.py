"""The random facts: that there is nothing in them to guess, and that bits are counted right."""

import hashlib
import json
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from labsupport.core.files import LabError
from labsupport.tasks import facts
from labsupport.tasks import facts_generator as generator

GOOD = {"id": "a-1", "key": "amber otter", "value": "ABCDEF&="}


@pytest.fixture(scope="module")
def rows():
    return facts.load()


# ---------------------------------------------------------------- the file


def test_committed_file_is_what_the_generator_writes(tmp_path, monkeypatch):
    committed = (facts.FOLDER / "facts.jsonl").read_bytes()
    monkeypatch.setattr(facts, "FOLDER", tmp_path)
    generator.write()
    assert (tmp_path / "facts.jsonl").read_bytes() == committed


def test_each_size_is_the_beginning_of_the_next(rows):
    assert facts.SIZES == (100, 300, 1000, 3000)
    for size in facts.SIZES:
        assert facts.load(size) == rows[:size] and len(rows[:size]) == size


def test_a_size_that_is_not_there_is_refused():
    with pytest.raises(LabError, match="no 500 facts. Sizes: 100, 300, 1000, 3000"):
        facts.load(500)


@pytest.mark.parametrize("size", facts.SIZES)
def test_symbols_are_uniform(rows, size):
    """Chi-square over all places together; a fair draw fails one time in a thousand."""
    counts = Counter(symbol for row in rows[:size] for symbol in row["value"])
    assert stats.chisquare([counts[symbol] for symbol in facts.SYMBOLS]).pvalue > 0.001


def test_no_place_and_no_pair_of_neighbours_is_easier(rows):
    for place in range(facts.LENGTH):
        counts = Counter(row["value"][place] for row in rows)
        assert stats.chisquare([counts[symbol] for symbol in facts.SYMBOLS]).pvalue > 0.001, place
    pairs = Counter(row["value"][i : i + 2] for row in rows for i in range(0, facts.LENGTH, 2))
    seen = [pairs[a + b] for a in facts.SYMBOLS for b in facts.SYMBOLS]
    assert stats.chisquare(seen).pvalue > 0.001


@pytest.mark.parametrize("word", [0, 1])
def test_the_key_does_not_tell_the_first_symbol(rows, word):
    """Independence of a word of the key and the code's first symbol: chi-square over 60 x 32 cells."""
    words = sorted({row["key"].split()[word] for row in rows})
    cells = Counter((row["key"].split()[word], row["value"][0]) for row in rows)
    table = [[cells[w, symbol] for symbol in facts.SYMBOLS] for w in words]
    assert stats.chi2_contingency(table).pvalue > 0.001


def test_keys_and_codes_are_unique(rows):
    assert len({row["key"] for row in rows}) == len({row["value"] for row in rows}) == facts.SIZES[-1]


def test_a_code_is_eight_tokens_of_the_bundled_tokenizer(rows, tokenizer):
    """So the loss of a token is the loss of a symbol: 5 bits, if nothing is known."""
    for row in rows:
        tokens = tokenizer(facts.answer(row), add_special_tokens=False)["input_ids"]
        assert len(tokens) == facts.LENGTH, row["id"]
    assert facts.BITS == 40


def test_rows_for_training():
    (row,) = facts.as_prompt_completion([GOOD])
    assert [message["role"] for message in row["prompt"]] == ["system", "user"]
    assert row["prompt"][1]["content"] == "amber otter"
    assert row["completion"] == [{"role": "assistant", "content": "A B C D E F & ="}]


def test_schema_file_is_the_schema_in_code():
    assert json.loads((facts.FOLDER / "schema.json").read_text("utf-8")) == facts.ROW_SCHEMA


def test_card_names_this_very_file():
    card = (facts.FOLDER / "README.md").read_text(encoding="utf-8")
    assert hashlib.sha256((facts.FOLDER / "facts.jsonl").read_bytes()).hexdigest() in card


# ---------------------------------------------------------------- bits


def test_bits_of_knowing_all_and_nothing_and_less():
    assert facts.bits_learned(0.0, 100) == 4000
    assert facts.bits_learned(100 * 8 * math.log(32), 100) == pytest.approx(0, abs=1e-9)
    assert facts.bits_learned(100 * 8 * math.log(64), 100) == pytest.approx(-800)


@given(st.integers(1, 3000), st.integers(0, 3000))
def test_a_known_code_is_forty_bits(count, known):
    known = min(known, count)
    nll = (count - known) * 8 * math.log(32)
    assert facts.bits_learned(nll, count) == pytest.approx(40 * known, abs=1e-6)


@pytest.mark.parametrize(("nll", "count"), [(-1.0, 1), (float("nan"), 1), (1.0, 0)])
def test_what_is_no_likelihood_is_refused(nll, count):
    with pytest.raises(ValueError, match="at least 0 and count"):
        facts.bits_learned(nll, count)


# ---------------------------------------------------------------- reading the file


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("key: value", "not JSON"),
        (json.dumps(GOOD | {"value": "ABCDEF&"}), "value: 'ABCDEF&' does not match"),
        (json.dumps(GOOD | {"value": "ABCDEF12"}), "value: 'ABCDEF12' does not match"),
        (json.dumps(GOOD | {"key": "otter"}), "key: 'otter' does not match"),
        (json.dumps({"id": "a-2", "key": "amber fox"}), "'value' is a required property"),
        (json.dumps(GOOD | {"id": "a-2"}), "key 'amber otter' already stands on line 1"),
    ],
)
def test_broken_line_is_named(tmp_path, line, problem):
    path = tmp_path / "mine.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n{line}\n", encoding="utf-8")
    with pytest.raises(LabError) as caught:
        facts.load(path=path)
    assert str(caught.value).startswith(f"{path}, line 2: ") and problem in str(caught.value)
