"""The quantiser: what the notebook says of it, its corners and its controls."""

import pytest

from labsupport.core.files import LabError
from labsupport.evaluation import four_bit
from labsupport.explorers import quantiser_explorer


def test_the_explorer_finds_what_the_notebook_says():
    calm = quantiser_explorer.view(blocksize=64)
    assert "NF4" in calm.heading and len(calm.table) == len(four_bit.ALL_FORMATS)
    assert calm.figure is not None and len(calm.alt) > 30
    errors = [quantiser_explorer.view(blocksize=64, outlier=o).table[0]["error"] for o in (0.0, 20.0)]
    assert errors[1] != errors[0]


@pytest.mark.parametrize("name", four_bit.ALL_FORMATS)
@pytest.mark.parametrize("blocksize", [32, 4096])
@pytest.mark.parametrize(("weights", "outlier"), [("Gaussian", 0.0), ("Student t5", 1000.0)])
def test_the_explorer_draws_at_its_corners(name, blocksize, weights, outlier):
    view = quantiser_explorer.view(name, blocksize, weights, outlier)
    assert all(set(row) == set(view.table[0]) for row in view.table)
    assert "nan" not in (view.heading + str(view.table)).lower()


def test_the_explorers_controls_redraw():
    explorer = quantiser_explorer.explore()
    seen = {explorer.out.value}
    for size in (4096, 32, 128, 1024):
        explorer.controls["blocksize"].value = size
        seen.add(explorer.out.value)
    assert len(seen) == 5


def test_the_explorer_says_what_is_wrong():
    for bad in ({"blocksize": 48}, {"outlier": -1.0}, {"outlier": float("nan")}, {"name": "INT5"}):
        with pytest.raises(LabError):
            quantiser_explorer.view(**bad)
