"""The explorer of merging: what the notebook says of it, its corners and its controls."""

import pytest

from labsupport.core.files import LabError
from labsupport.explorers import merge_routes_explorer
from labsupport.merge_runs import rounding


def kept(view) -> dict[str, float]:
    """Route -> percent of the update."""
    return {row["route"]: float(row["update kept"].split()[0]) for row in view.table}


def test_the_explorer_finds_what_the_notebook_says():
    small, large = (merge_routes_explorer.view(percent=percent) for percent in (0.36, 30))
    assert kept(small)["in place"] < 2 and kept(large)["in place"] > 95
    assert kept(small)["dequantised"] == pytest.approx(100, abs=0.1)
    assert kept(small)["re-quantised"] == pytest.approx(100, abs=15)
    assert set(rounding.ROUTES) < set(kept(small)) and len(small.table) == 9
    assert "0.36 %" in small.heading and len(small.alt) > 30 and small.figure is not None


@pytest.mark.parametrize("weight", merge_routes_explorer.WEIGHTS)
@pytest.mark.parametrize(
    ("start", "end", "percent"),
    [("NF4", "NF4", 0.001), ("bfloat16", "bfloat16", 0.001), ("float32", "NF4", 100)],
)
def test_the_explorer_draws_at_its_corners(weight, start, end, percent):
    view = merge_routes_explorer.view(weight, start, end, percent)
    assert all(set(row) == set(view.table[0]) for row in view.table)
    assert "nan" not in (view.heading + str(view.table)).lower()


def test_the_explorers_controls_redraw():
    explorer = merge_routes_explorer.explore()
    seen = {explorer.out.value}
    for control, value in (("percent", 10.0), ("end", "bfloat16"), ("start", "float32")):
        explorer.controls[control].value = value
        seen.add(explorer.out.value)
    assert len(seen) == 4


def test_the_explorer_says_what_is_wrong():
    for bad in ({"percent": 0.0}, {"percent": float("nan")}, {"start": "FP4"}, {"weight": "Qwen"}):
        with pytest.raises(LabError):
            merge_routes_explorer.view(**bad)
