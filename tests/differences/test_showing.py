"""What was returned beside what was expected: short results whole, of long ones the part that differs."""

import numpy as np
import pytest
import torch

from labsupport.differences.comparing import plain
from labsupport.differences.showing import side_by_side

LONG = list(range(40))


@pytest.mark.parametrize(
    ("expected", "got", "text"),
    [
        (0.31, 0.0, "it returned 0 where 0.31 was expected"),
        (0.123451, 0.123452, "it returned 0.123452 where 0.123451 was expected"),
        (24576, 12288, "it returned 12,288 where 24,576 was expected"),
        (True, False, "it returned False where True was expected"),
        (None, "None", "it returned 'None' where None was expected"),
        ("a", None, "it returned None where 'a' was expected"),
        ([1, 2], [1, 3], "it returned [1, 3] where [1, 2] was expected"),
        ((1, "a"), [1, "b"], "it returned [1, 'b'] where [1, 'a'] was expected"),
        ({"a": 1.5}, {"a": 2}, "it returned {'a': 2} where {'a': 1.5} was expected"),
        (torch.eye(2), -torch.eye(2), "it returned [[-1, -0], [-0, -1]] where [[1, 0], [0, 1]] was expected"),
        (LONG, [*LONG[:7], -1, *LONG[8:]], "at [7] it returned -1 where 7 was expected"),
        (
            torch.zeros(5, 4),
            torch.zeros(5, 4).index_put((torch.tensor(3), torch.tensor(2)), torch.tensor(0.5)),
            "at [3, 2] it returned 0.5 where 0 was expected",
        ),
        ({"a": LONG, "b": 1}, {"a": [*LONG[:-1], 0], "b": 1}, "at ['a'][39] it returned 0 where 39 was"),
        ([np.zeros(9), "a"], [np.ones(9), "a"], "at [0][0] it returned 1 where 0 was expected"),
        (
            np.zeros((3, 4)),
            np.zeros((4, 3)),
            "it returned ndarray of shape (4, 3) where ndarray of shape (3, 4)",
        ),
        (LONG, LONG[:-1], "it returned list of shape (39,) where list of shape (40,) was expected"),
        (["a"] * 9, ["a"] * 8, "it returned a list of length 8 where a list of length 9 was expected"),
        (LONG, "x" * 200, "it returned 'xxx"),
        (dict.fromkeys("abcdefgh", 1), {}, "it returned {} where a dict with the keys 'a', 'b'"),
        (10**40, 3, "it returned 3 where "),
    ],
)
def test_side_by_side(expected, got, text):
    said = side_by_side(plain(expected), plain(got))
    assert said.startswith(text) and len(said) < 240
