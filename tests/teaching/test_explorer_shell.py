"""The explorers' shell: controls redraw, errors replace the view, and the static fallback says the same."""

from pathlib import Path

import ipywidgets as widgets
import pytest
from IPython.display import HTML
from matplotlib.figure import Figure

from labsupport.core.files import LabError
from labsupport.teaching import explorer_shell
from labsupport.teaching.explorer_shell import Announcer, Explorer, View


def render(rank, layer, dora, again):
    if rank == 13:
        raise LabError("Rank 13 is <unlucky>: take another.")
    if rank == 14:
        raise ZeroDivisionError("of ours")
    figure = Figure()
    figure.subplots().plot([0, rank])
    rows = [{"layer": layer, "parameters": f"{rank * 1536:,}"}, {"layer": "<all>", "DoRA": dora}]
    return View(f"Rank {rank} & {again} draws.", rows, figure, f'A line to "{rank}".')


def explorer(**changes):
    controls = {
        "rank": widgets.BoundedIntText(8, min=1, max=64, description="Rank"),
        "layer": widgets.Dropdown(options=["q_proj", "<v>"], description="Layer"),
        "dora": widgets.Checkbox(False, description="DoRA"),
        "again": widgets.Button(description="Draw again"),
    }
    return Explorer(render, controls | changes, "A <test>")


def test_first_view_is_drawn_and_every_control_redraws():
    e = explorer()
    assert "12,288" in e.out.value and "Rank 8" in e.out.value
    e.controls["rank"].value = 16
    assert "24,576" in e.out.value and "Rank 16" in e.out.value
    e.controls["dora"].value = True
    assert ">True</td>" in e.out.value
    e.controls["again"].click()
    e.controls["again"].click()
    assert "2 draws" in e.out.value
    assert e.values() == {"rank": 16, "layer": "q_proj", "dora": True, "again": 2}


def test_everything_shown_is_escaped():
    e = explorer()
    e.controls["layer"].value = "<v>"
    for shown in (e.out.value, e._repr_mimebundle_()["text/html"]):
        assert ">&lt;v&gt;</th>" in shown and "&lt;all&gt;" in shown and "Rank 8 &amp; 0" in shown
        assert "<v>" not in shown and "<all>" not in shown
    assert "A &lt;test&gt;" in e._repr_mimebundle_()["text/html"]
    assert "<test>" not in "".join(w.value for w in e.widget.children if isinstance(w, widgets.HTML))


def test_figure_is_an_image_with_alt_text():
    e = explorer()
    assert e.out.value.count("<img ") == 1
    assert 'alt="A line to &quot;8&quot;."' in e.out.value and "data:image/png;base64," in e.out.value


def test_figure_comes_first_and_its_table_can_be_opened():
    shown = explorer().out.value
    places = [shown.index(tag) for tag in ("<p>Rank 8", "<img ", "<details><summary>", "<table>")]
    assert places == sorted(places)
    bare = explorer_shell.as_html(View("No picture.", [{"layer": "q_proj"}]))
    assert "<table>" in bare and "<details>" not in bare


def test_a_drawing_stands_where_a_figure_would():
    drawn = View("Tokens.", [{"token": "a"}], drawing=HTML("<p>a <ins>b</ins></p>"))
    shown = explorer_shell.as_html(drawn)
    assert shown.startswith("<p>Tokens.</p><p>a <ins>b</ins></p><details>")


def test_a_text_area_redraws():
    e = Explorer(lambda t: View(f"{len(t)} long.", []), {"t": widgets.Textarea("ab", description="t")}, "T")
    e.controls["t"].value = "abc"
    assert e.out.value == "<p>3 long.</p>"


def test_busy_while_the_view_is_computed_also_if_it_fails():
    seen = []

    def watched(n):
        seen.append(e.announcer.busy if n else None)
        return View(f"{10 // (n - 1)} it is.", [])

    e = Explorer(watched, {"n": widgets.IntText(0, description="n")}, "T")
    e.controls["n"].value = 3
    assert seen == [None, True] and not e.announcer.busy
    with pytest.raises(ZeroDivisionError):
        e.controls["n"].value = 1
    assert not e.announcer.busy


def test_bad_value_shows_the_sentence_in_place_of_the_view():
    e = explorer()
    e.controls["rank"].value = 13
    assert e.out.value == "<p>Rank 13 is &lt;unlucky&gt;: take another.</p>"
    assert e.announcer.sentence == "Rank 13 is <unlucky>: take another."
    e.controls["rank"].value = 12
    assert "18,432" in e.out.value and "unlucky" not in e.out.value


def test_fault_of_ours_leaves_no_stale_view():
    e = explorer()
    with pytest.raises(ZeroDivisionError):
        e.controls["rank"].value = 14
    assert "This view failed" in e.out.value and "12,288" not in e.out.value


def test_changes_are_announced_and_the_first_view_is_not():
    e = explorer()
    assert e.announcer.sentence == ""
    e.controls["rank"].value = 9
    assert e.announcer.sentence == "Rank 9 & 0 draws."
    assert e.announcer in e.widget.children and "lab-explorer" in e.widget._dom_classes


def test_static_fallback_has_settings_table_and_figure():
    e = explorer()
    e.controls["rank"].value = 16
    bundle = e._repr_mimebundle_()
    view = "application/vnd.jupyter.widget-view+json"
    assert bundle[view]["model_id"] == e.widget.model_id and "state" not in bundle[view]
    assert "Rank: 16, Layer: q_proj" in bundle["text/html"] and e.out.value in bundle["text/html"]
    assert bundle["text/plain"].splitlines() == [
        "A <test>",
        "Rank: 16, Layer: q_proj, DoRA: False, Draw again: 0",
        "Rank 16 & 0 draws.",
        "layer   parameters  DoRA",
        "------  ----------  -----",
        "q_proj      24,576",
        "<all>               False",
    ]


def test_view_without_table_and_figure():
    e = Explorer(lambda n: View(f"{n} it is.", []), {"n": widgets.IntText(3, description="n")}, "T")
    assert e.out.value == "<p>3 it is.</p>"
    assert e._repr_mimebundle_()["text/plain"] == "T\nn: 3\n3 it is."


@pytest.mark.parametrize(
    ("control", "text"),
    [
        (widgets.IntSlider(description="Rank"), "IntSlider: use one of"),
        (widgets.Output(), "Output: use one of"),
        (widgets.BoundedIntText(8), "no description"),
        (widgets.Dropdown(options=[1], description=" "), "no description"),
    ],
)
def test_controls_that_are_not_accessible_are_refused(control, text):
    with pytest.raises(LabError, match=text):
        explorer(rank=control)


def test_labels_are_not_cut_off():
    for name, control in explorer().controls.items():
        assert name == "again" or control.style.description_width == "initial"


def test_browser_gets_the_files_beside_the_shell():
    folder = Path(explorer_shell.__file__).parent
    assert str(Announcer._esm) == (folder / "explorer_shell.js").read_text(encoding="utf-8")
    assert str(Announcer._css) == (folder / "explorer_shell.css").read_text(encoding="utf-8")
