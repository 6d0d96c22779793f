"""The QLoRA recipe as an explorer: each switch's line says what the planner and the cost model say."""

import html
import itertools
import re

import pytest

from labsupport.allocations.streams import GIB
from labsupport.core import text
from labsupport.core.files import ROOT, LabError
from labsupport.cost import switches
from labsupport.cost.switches import Recipe
from labsupport.explorers import qlora_recipe_explorer as qlora
from labsupport.planning import closed_form, footprint
from labsupport.sizes import gpus
from labsupport.teaching import explorer_shell

SMALL = {"model": "smollm2-135m", "batch": 2, "accumulation": 1, "length": 64}


def cells(view: explorer_shell.View, column: str) -> dict[str, str]:
    return {row[""]: row[column] for row in view.table if column in row}


@pytest.fixture
def traces(monkeypatch):
    """The recipes that a trace was asked for; in place of a trace, 1 GiB for each row and whether it is over
    3 GiB."""
    asked = []

    def traced(recipe, card):
        asked.append(recipe)
        return switches.Traced(recipe.batch, recipe.batch + 0.5, recipe.batch <= 3)

    monkeypatch.setattr(switches, "traced", traced)
    return asked


@pytest.mark.parametrize(
    "options", [{}, {"method": "lora", "card": "h100"}, {"model": "qwen2.5-7b", "card": 16}]
)
def test_every_line_is_the_planners_and_the_cost_models(options):
    view = qlora.view(**options)
    fields = {name: value for name, value in options.items() if name != "card"}
    recipe, card = Recipe(**fields), gpus.find(options.get("card", "l4"))
    start = closed_form.peak_bytes(recipe.setup()) / GIB
    peaks = [start]
    for flip in switches.flips(recipe):
        setup = flip.recipe.setup()
        peaks.append(closed_form.peak_bytes(setup) / GIB)
        assert cells(view, qlora.CLOSED)[flip.words] == text.size(peaks[-1])
        assert cells(view, "more")[flip.words] == f"{peaks[-1] - start:+,.2f}"
        time = cells(view, "time of a step")[flip.words]
        if card.sustained_tflops is None:
            assert time == "unknown here"
        elif flip.timed:
            low, high = switches.time_factor(recipe.setup(), setup, card)
            assert time in (f"x {low:.2f} to {high:.2f}", f"x {low:.2f}")
        else:
            assert time == "not modelled"
    axes = view.figure.axes[0]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx(peaks)
    assert axes.lines[0].get_xdata()[0] == footprint.usable_gib(card)
    assert view.heading.startswith(
        f"By the closed form, a prediction: at its peak the recipe allocates {text.size(start)} GiB"
    )
    assert "predict" in view.alt and "predict" in axes.get_xlabel()


def test_the_heading_names_what_moves_the_peak_most_and_least():
    heading = qlora.view().heading
    assert "no checkpointing moves the peak most (+" in heading
    assert heading.endswith("adamw_8bit least (-0.08).")
    assert "NF4" in qlora.view("llama-3-70b", method="lora", batch=1, length=64).heading


@pytest.mark.parametrize(("card", "words"), [(40, "fits a"), (9, "may or may not fit"), (4, "does not fit")])
def test_a_verdict_near_the_line_is_left_to_the_trace(card, words):
    view = qlora.view(card=card)
    assert words in view.heading
    assert (cells(view, "fits")["the recipe"] == qlora.UNSURE) == (card == 9)


def test_colours_and_signs_agree(traces):
    view = qlora.view(batch=2, trace=1)  # fewer rows alone are less here
    colors = dict(
        zip(cells(view, "fits"), (bar.get_facecolor() for bar in view.figure.axes[0].patches), strict=False)
    )
    signs = cells(view, "more, traced")
    assert signs["1 x 8 rows"] == "-1.00" and signs["rank 64"] == "+0.00" and signs["the recipe"] == ""
    assert len({colors["the recipe"], colors["1 x 8 rows"], colors["rank 64"]}) == 3
    more = qlora.view(batch=1, trace=1)
    assert cells(more, "more, traced")["4 x 1 rows"] == "+3.00" and cells(more, "fits")["4 x 1 rows"] == "NO"


def test_only_states_can_be_paged_and_the_line_says_how_much_that_is():
    shown = cells(qlora.view(), "what it does")
    size = text.number(switches.moment_bytes(Recipe(optimizer="adamw_8bit").setup()) / 2**20)
    assert f"keeps {size} MiB of moments; at most these can be paged out" in shown["paged_adamw_8bit"]
    assert "paged" not in shown["adamw_8bit"].removeprefix("adamw_8bit") and size in shown["adamw_8bit"]
    assert "at most these" in cells(qlora.view(optimizer="paged_adamw_8bit"), "what it does")["the recipe"]


def test_where_the_closed_form_is_rough_the_line_asks_for_a_trace(traces):
    for trace, rough in ((0, True), (1, False)):
        shown = cells(qlora.view(trace=trace), "what it does")
        assert ("trace it" in shown["k-bit preparation"]) == rough
        assert sum("trace it" in words for words in shown.values()) == rough


def test_a_pressed_button_traces_every_switch_and_a_moved_control_none(traces):
    explorer = qlora.explore(**SMALL)
    assert traces == [] and explorer.view.heading.startswith("By the closed form")
    explorer.controls["trace"].click()
    recipe = Recipe(**SMALL)
    assert traces == [recipe, *(flip.recipe for flip in switches.flips(recipe))]
    first = explorer.out.value
    assert explorer.view.heading.startswith("Traced, a prediction: at its peak the recipe allocates 2.00 GiB")
    assert cells(explorer.view, qlora.TRACE)["1 x 2 rows"] == "1.00"
    del traces[:]
    explorer.controls["rank"].value = 8
    assert traces == [] and explorer.view.heading.startswith("By the closed form")
    explorer.controls["rank"].value = 16
    assert explorer.out.value == first  # as it was asked for before


def test_a_traced_recipe_is_drawn():
    explorer = qlora.explore(**SMALL, card="t4")
    explorer.controls["trace"].click()
    assert explorer.view.heading.startswith("Traced, a prediction")
    assert html.escape(explorer.view.alt) in explorer.out.value
    shown = cells(explorer.view, qlora.TRACE)
    peak = switches.traced(Recipe(**SMALL), gpus.find("t4")).peak_gib
    assert shown["the recipe"] == text.size(peak)
    assert "no bfloat16 arithmetic" in cells(explorer.view, "what it does")["room on T4, 16 GB"]


def test_headings_that_it_sends_to_are_there():
    sent = [re.findall(r'notebook (\d\d), "(.+?)"', words) for words in qlora.QUALITY.values()]
    assert sum(map(len, sent)) == 2
    for number, heading in itertools.chain(*sent):
        master = next((ROOT / "solutions").glob(f"{number}_*.py")).read_text(encoding="utf-8")
        assert f"# ## {heading}\n" in master
    assert set(qlora.QUALITY) == {flip.switch for flip in switches.flips(Recipe())}


def extremes(control) -> tuple:
    if hasattr(control, "options"):
        return control._options_full[0][1], control._options_full[-1][1]
    return (control.min, control.max) if hasattr(control, "max") else (False, True)


def test_every_corner_is_drawn_or_gets_a_sentence():
    controls = {name: c for name, c in qlora.explore().controls.items() if name != "trace"}
    ends = {name: extremes(control) for name, control in controls.items()}
    alone = ("model", "method", "length", "rank")
    together = [name for name in ends if name not in alone]
    seen = set()
    for places in itertools.product((0, 1), repeat=len(alone) + 1):
        where = dict(zip(alone, places[:-1], strict=True)) | dict.fromkeys(together, places[-1])
        what = {name: ends[name][place] for name, place in where.items()}
        try:
            Recipe(**{name: value for name, value in what.items() if name != "card"}).setup()
        except LabError:
            with pytest.raises(LabError):
                qlora.view(**what)
            seen.add("refused")
            continue
        view = qlora.view(**what)
        assert view.heading.endswith(".") and view.figure is not None and len(view.alt) > 60
        assert all(str(value) not in ("None", "nan", "inf") for row in view.table for value in row.values())
        seen.add("drawn")
    assert seen == {"drawn", "refused"}


def test_controls_redraw(traces):
    explorer = qlora.explore()
    seen = {explorer.out.value}
    changes = {"model": "qwen2.5-7b", "card": "t4", "kbit_preparation": True, "double_quantization": False}
    changes |= {"checkpointing": False, "trainer": "plain", "optimizer": "adamw_8bit", "batch": 3}
    changes |= {"accumulation": 2, "length": 100, "rank": 8, "method": "lora"}
    assert set(changes) == set(explorer.controls) - {"trace"}
    for count, (name, value) in enumerate(changes.items(), start=2):
        explorer.controls[name].value = value
        seen.add(explorer.out.value)
        assert len(seen) == count


def test_explore_starts_where_it_is_told_and_refuses_bad_values():
    explorer = qlora.explore("Mistral-7B-v0.3", card=48, checkpointing=False, rank=8)
    assert explorer.out.value == explorer_shell.as_html(
        qlora.view("mistral-7b-v0.3", card=48, checkpointing=False, rank=8)
    )
    labels = [control.description for control in explorer.controls.values()]
    assert all(labels) and len(set(labels)) == len(labels)
    for bad, words in (
        ({"model": "mistral"}, "no model"),
        ({"card": "l5"}, "nearest first: l4"),
        ({"method": "full"}, "give qlora or lora"),
    ):
        with pytest.raises(LabError, match=words):
            qlora.explore(**bad)
