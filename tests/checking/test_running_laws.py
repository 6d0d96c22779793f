"""No check changes what it was given, whatever that is and whatever the function does to it."""

import copy

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labsupport.checking import running
from labsupport.checking.exercise import Exercise

values = st.recursive(
    st.none() | st.integers() | st.floats() | st.text(max_size=3) | st.booleans(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=10,
)


def spoiled(value):
    """Changes whatever can be changed in place, down to the last list."""
    if isinstance(value, dict):
        for item in value.values():
            spoiled(item)
        value["spoiled"] = True
    elif isinstance(value, list):
        for item in value:
            spoiled(item)
        value.append("spoiled")
    elif isinstance(value, (np.ndarray, torch.Tensor)):
        value[...] = 99


@settings(max_examples=60)
@given(st.lists(values, min_size=1, max_size=3), st.lists(st.floats(-9, 9), min_size=1, max_size=3))
def test_a_check_never_changes_the_arguments(arguments, numbers):
    arguments += [np.array(numbers), torch.tensor(numbers)]
    before = copy.deepcopy(arguments)
    exercise = Exercise("q", lambda *x: 1, [tuple(arguments)], [(lambda *x: spoiled(list(x)), "a mistake")])
    result = exercise.check(lambda *x: spoiled(list(x)) or 1)
    assert not running.differ(arguments, before)
    changeable = (dict, list, np.ndarray, torch.Tensor)
    changed = [str(i) for i, item in enumerate(arguments, start=1) if isinstance(item, changeable)]
    assert f"argument {' and '.join(changed)} in place" in result.message
