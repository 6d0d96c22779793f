"""`lab.py bench`: what is timed, not how long it takes."""

import sys
from types import SimpleNamespace

import ipywidgets as widgets
import pytest

from labsupport.core import course
from labsupport.core.files import LabError
from labsupport.teaching.explorer_shell import Explorer, View
from labsupport.upkeep import bench

DRAWN = []


def draw(rank: int, kind: str, dora: bool, runs: int) -> View:
    """Rank 64 with DoRA is no setting; `runs` is a button."""
    if dora and rank == 64:
        raise LabError("no setting")
    DRAWN.append((rank, kind, dora, runs))
    return View(f"rank {rank}", [{"rank": rank}])


def explore() -> Explorer:
    controls = {
        "rank": widgets.BoundedIntText(value=8, min=1, max=64, description="rank"),
        "kind": widgets.Dropdown(options=[("LoRA", "lora"), ("QLoRA", "qlora")], description="kind"),
        "dora": widgets.Checkbox(value=False, description="DoRA"),
        "runs": widgets.Button(description="run it"),
    }
    return Explorer(draw, controls, "Ranks")


@pytest.fixture
def one_explorer(monkeypatch):
    """The course has one explorer, and a millisecond is how often an action was run."""
    monkeypatch.setitem(sys.modules, "ranks_explorer", SimpleNamespace(explore=explore))
    monkeypatch.setattr(
        course, "parts", lambda kind: {"ranks": "ranks_explorer"} if kind == "explorer" else {}
    )
    monkeypatch.setattr(bench, "milliseconds", lambda action: (action(), 1.0)[1])
    DRAWN.clear()


def test_each_explorer_is_drawn_as_it_opens_and_in_its_corners(one_explorer):
    assert bench.explorers(corners=40) == [
        {"explorer": "ranks", "opens_ms": 1.0, "slowest_corner_ms": 1.0, "figure_ms": 1.0}
    ]
    assert DRAWN[0] == (8, "lora", False, 0)
    ranks, kinds, checked, presses = (set(values) for values in zip(*DRAWN, strict=True))
    assert ranks == {1, 8, 64} and kinds == {"lora", "qlora"} and checked == {False, True} and presses == {0}


@pytest.mark.parametrize(
    ("control", "ends"),
    [
        (widgets.BoundedFloatText(value=1.0, min=0.5, max=2.0), [0.5, 2.0]),
        (widgets.Dropdown(options=["a", "b", "c"]), ["a", "c"]),
        (widgets.Dropdown(options={"first": 1, "last": 3}), [1, 3]),
        (widgets.Checkbox(value=True), [False, True]),
        (widgets.IntText(value=7), [7]),
    ],
)
def test_ends_of_a_control(control, ends):
    assert bench.extremes(control) == ends


def test_milliseconds_leave_the_first_run_out(monkeypatch):
    clock, runs = iter([1.0, 1.5, 2.0, 2.1, 3.0, 3.3]), []
    monkeypatch.setattr(bench.time, "perf_counter", lambda: next(clock))
    assert bench.milliseconds(lambda: runs.append(1), times=3) == pytest.approx(300)
    assert len(runs) == 4


def test_preflight_is_timed_beside_plain_reading_over_rows_without_a_fault(monkeypatch):
    from labsupport.preflight import session

    reports, look = [], session.look
    monkeypatch.setattr(session, "look", lambda data: reports.append(look(data)))
    (found,) = bench.preflight(sizes=(60,))
    assert found.keys() == {"rows", "plain_seconds", "reading_seconds", "all_seconds"}
    assert [(one.run.rows, one.run.sampled, one.clean) for one in reports] == [(60, 60, True)] * 2
