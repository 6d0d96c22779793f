"""Two things that would do the same are described alike, and two that would not are not."""

import copy
import dataclasses
import functools
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labsupport.evaluation import scoring
from labsupport.fingerprints.describing import describe, digest
from labsupport.tasks import tickets


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Makes a module of a given text, under a new name each time."""
    monkeypatch.syspath_prepend(tmp_path)
    made = []

    def make(text: str, name: str | None = None):
        name = name or f"of_a_test_{len(made)}_{tmp_path.name.replace('-', '_')}"
        (tmp_path / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        made.append(name)
        return importlib.import_module(name)

    yield make
    for name in made:
        sys.modules.pop(name, None)


PLAIN = "LIMIT = 3\n\ndef helper(x):\n    return x + LIMIT\n\ndef run(x):\n    return helper(x) * 2\n"
SAME = [
    PLAIN,
    PLAIN.replace("    return helper(x) * 2", '    """What it is for."""\n    # why\n    return helper(x)*2'),
    "import math\nimport json\n" + PLAIN,
    PLAIN + "\ndef unused():\n    return 0\n",
]
OTHER = [
    PLAIN.replace("* 2", "* 3"),
    PLAIN.replace("LIMIT = 3", "LIMIT = 4"),  # a constant that a helper reads
    PLAIN.replace("x + LIMIT", "x - LIMIT"),  # the code of a helper
    PLAIN.replace("def run(x)", "def run(x, more=1)"),
]


@pytest.mark.parametrize("text", SAME, ids=range(len(SAME)))
def test_name_of_the_module_comments_and_layout_do_not_count(text, module):
    assert digest(module(text).run) == digest(module(PLAIN).run)


@pytest.mark.parametrize("text", OTHER, ids=range(len(OTHER)))
def test_code_helpers_and_constants_count(text, module):
    assert digest(module(text).run) != digest(module(PLAIN).run)


def test_what_is_reached_through_a_module_counts_and_the_way_there_does_not(module):
    first, moved = module(PLAIN), module(PLAIN)
    other = module(PLAIN.replace("* 2", "* 5"))
    users = [
        module(f"import {m.__name__} as {alias}\n\ndef use(x):\n    return {alias}.run(x)\n")
        for m, alias in ((first, "a"), (moved, "b"), (other, "a"))
    ]
    assert digest(users[0].use) == digest(users[1].use) != digest(users[2].use)


def test_the_courses_scores_hang_on_prompt_and_template_code_but_not_on_threads(monkeypatch):
    before = digest(scoring.score)
    assert "def answer" in json.dumps(describe(scoring.score))  # three modules away
    monkeypatch.setattr(tickets, "SYSTEM_PROMPT", "Another prompt.")
    assert digest(scoring.score) != before


def closure(threshold):
    return lambda x: x > threshold


class Collator:
    """As people write them: settings in, rows out."""

    def __init__(self, pad, mask=True):
        self.pad, self.mask = pad, mask

    def __call__(self, rows):
        return rows

    def shorten(self, rows):
        return rows[: self.pad]


@dataclasses.dataclass
class Settings:
    rate: float
    folder: Path


def increased(x, by=1):
    return x + by


PAIRS = {
    "values in a closure": (closure(1), closure(2)),
    "two lambdas on one line": (lambda x: x, lambda x: -x),
    "settings of an object": (Collator(0), Collator(1)),
    "an object with methods": (Collator(0, mask=True), Collator(0, mask=False)),
    "a bound method's object": (Collator(1).shorten, Collator(2).shorten),
    "arguments of a partial": (functools.partial(increased, by=1), functools.partial(increased, by=2)),
    "a partial and its function": (functools.partial(increased), increased),
    "dataclasses": (Settings(0.1, Path("a")), Settings(0.2, Path("a"))),
    "tensors": (torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.5])),
    "dtypes of tensors": (torch.tensor([1.0]), torch.tensor([1.0], dtype=torch.bfloat16)),
    "shapes of arrays": (np.zeros((2, 3)), np.zeros((3, 2))),
    "numbers and text": (1, "1"),
    "a set": ({1, 2}, {1, 3}),
}


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_different_things_are_described_differently(pair):
    first, second = pair
    assert digest(first) != digest(second)
    assert digest(first) == digest(copy.deepcopy(first))


def test_equal_things_are_described_alike():
    assert digest(closure(1)) == digest(closure(1))
    assert digest(Collator(3)) == digest(Collator(3))
    assert digest(Settings(0.1, Path("a"))) == digest(Settings(0.1, Path("elsewhere")))
    one = [1, 2]
    assert digest([one, one]) == digest([[1, 2], [1, 2]])
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})


def again(n):
    return again(n - 1) if n else 0


def test_what_leads_back_to_itself_comes_to_an_end():
    ring = [1]
    ring.append(ring)
    assert digest(ring) == digest(ring)
    assert digest(again) == digest(again)


def test_another_process_describes_it_alike():
    program = (
        "from labsupport.fingerprints.describing import digest; from labsupport.evaluation import scoring\n"
        "places = dict.fromkeys({'b', 'a', 'c'}, scoring.score)\n"
        "print(digest(scoring.score), digest({'b', 'a', 'c'}), digest(places))"
    )
    places = dict.fromkeys(("b", "a", "c"), scoring.score)
    for seed in "123":  # of the order in which strings come out of a set
        others = os.environ | {"PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=others
        )
        assert done.stdout.split() == [digest(scoring.score), digest({"a", "b", "c"}), digest(places)]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@settings(max_examples=100)
@given(VALUES)
def test_data_is_described_by_its_value(value):
    assert json.loads(json.dumps(describe(value))) == describe(value)
    assert digest(value) == digest(eval(repr(value), {"nan": float("nan"), "inf": float("inf")}))
    assert digest([value]) != digest([value, value])
