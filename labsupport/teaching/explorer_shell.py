"""The shell of every explorer: labelled controls in a grid, below them the view they ask for, figure first.

No Output widget and no slider: the first breaks nbval, the second has no accessible name.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import anywidget
import ipywidgets as widgets
import traitlets
from matplotlib.figure import Figure

from labsupport.core import plots
from labsupport.core.files import LabError
from labsupport.core.tables import Table

ALLOWED = (
    widgets.Button,
    widgets.Checkbox,
    widgets.Dropdown,
    widgets.BoundedIntText,
    widgets.BoundedFloatText,
    widgets.IntText,
    widgets.Textarea,
)


# As many columns as fit, one at least: nothing is cut off in a narrow window.
GRID = {
    "grid_template_columns": "repeat(auto-fill, minmax(min(8rem, 100%), 1fr))",
    "grid_gap": "8px 12px",
    "align_items": "flex-end",
}


@dataclass(frozen=True)
class View:
    """heading: one sentence with the finding in numbers; table: rows of column -> printable value, the first
    column heads its row; figure: a matplotlib Figure (no pyplot) or None; alt: what it shows, in a sentence;
    drawing: in place of a figure, anything with a `_repr_html_`, whose text is taken as it is.
    """

    heading: str
    table: list[dict]
    figure: Figure | None = None
    alt: str = ""
    drawing: object | None = None

    def _repr_html_(self) -> str:
        """What a notebook shows of the plain call `view(...)`."""
        return as_html(self)


class Announcer(anywidget.AnyWidget):
    """What native ipywidgets lack: a live region that stays (the HTML widget replaces its content, which
    screen readers do not announce), a name for the group, a sign while the kernel computes, a table that
    stays open when the view is drawn anew, and keys kept from JupyterLab's shortcuts, where `b` on a focused
    drop-down list would insert a cell. Escape leaves the explorer.
    """

    sentence = traitlets.Unicode().tag(sync=True)
    busy = traitlets.Bool().tag(sync=True)
    title = traitlets.Unicode().tag(sync=True)
    _esm = Path(__file__).with_suffix(".js")
    _css = Path(__file__).with_suffix(".css")


class Explorer:
    """render(**values) -> View, redrawn whenever a control changes; a LabError is shown as its sentence.

    controls: name -> ipywidgets control of an ALLOWED kind, each with a description (its label). A button's
    value is how often it was pressed. `.out` is the widgets.HTML that shows the view. Raises LabError for a
    control of another kind or without a description.
    """

    def __init__(self, render: Callable[..., View], controls: dict[str, widgets.Widget], title: str):
        self.render, self.controls, self.title = render, controls, title
        self.presses = {name: 0 for name, c in controls.items() if isinstance(c, widgets.Button)}
        for name, control in controls.items():
            check(name, control)
            control.style.description_width = "initial"  # the default cuts labels off
            control.layout = {"width": "auto", "margin": "0"}
            if name in self.presses:
                control.on_click(lambda _button, name=name: self.press(name))
            else:
                control.observe(lambda _change: self.redraw(), names="value")
        self.out, self.announcer, self.view = widgets.HTML(), Announcer(title=title), None
        grid = widgets.GridBox([*controls.values()], layout=GRID)
        grid.add_class("lab-controls")
        self.widget = widgets.VBox([widgets.HTML(f"<b>{html.escape(title)}</b>"), grid, self.out])
        self.widget.children += (self.announcer,)
        self.widget.add_class("lab-explorer")
        self.redraw()
        self.announcer.sentence = ""  # nothing was asked yet

    def values(self) -> dict:
        """What the controls say now."""
        others = {name: c.value for name, c in self.controls.items() if name not in self.presses}
        return others | self.presses

    def press(self, name: str) -> None:
        self.presses[name] += 1
        self.redraw()

    def redraw(self) -> None:
        """Show the view for the present values; meanwhile the explorer says that it is busy."""
        self.announcer.busy = True  # reaches the page at once
        try:
            self.draw()
        finally:
            self.announcer.busy = False

    def draw(self) -> None:
        """Show the view for the present values, or the sentence why there is none."""
        try:
            self.view = self.render(**self.values())
        except Exception as error:
            sentence = str(error) if isinstance(error, LabError) else f"This view failed: {error!r}"
            self.view = View(sentence, [])
            if not isinstance(error, LabError):  # a fault of ours: no stale view, and not hushed up
                self.show()
                raise
        self.show()

    def show(self) -> None:
        self.out.value = as_html(self.view)
        self.announcer.sentence = self.view.heading

    def _repr_mimebundle_(self, **_options):
        """The widget, and for nbval, GitHub and VS Code without widgets the same as table and figure."""
        settings = [c.description + ": " + str(self.values()[n]) for n, c in self.controls.items()]
        title = f"<p><b>{html.escape(self.title)}</b><br>{html.escape(', '.join(settings))}</p>"
        data = self.widget._repr_mimebundle_()
        plain = "\n".join([self.title, ", ".join(settings), as_text(self.view)])
        return data | {"text/html": title + as_html(self.view), "text/plain": plain}


def check(name: str, control: widgets.Widget) -> None:
    if not isinstance(control, ALLOWED):
        kinds = ", ".join(kind.__name__ for kind in ALLOWED)
        raise LabError(f"Control {name!r} is a {type(control).__name__}: use one of {kinds}.")
    if not control.description.strip():
        raise LabError(f"Control {name!r} has no description: give it one, it is the control's label.")


def columns(view: View) -> list[str]:
    return list(dict.fromkeys(column for row in view.table for column in row))


def table_of(view: View) -> Table:
    names = columns(view)
    return Table(names, [[row.get(name, "") for name in names] for row in view.table])


def as_html(view: View) -> str:
    """Heading, figure and, folded away below a figure, the table; everything escaped."""
    parts = [f"<p>{html.escape(view.heading)}</p>"]
    if view.figure is not None:
        parts.append(plots.show(view.figure, view.alt).data)
    if view.drawing is not None:
        parts.append(view.drawing._repr_html_())
    if view.table:
        # A wide table is scrolled by itself, by keyboard too.
        scrolled = '<div role="group" aria-label="table" tabindex="0" style="overflow-x:auto">'
        table = f"{scrolled}{table_of(view)._repr_html_()}</div>"
        folded = f"<details><summary>The numbers as a table</summary>{table}</details>"
        parts.append(table if view.figure is None and view.drawing is None else folded)
    return "".join(parts)


def as_text(view: View) -> str:
    """Heading and table as plain lines."""
    return f"{view.heading}\n{table_of(view)!r}" if view.table else view.heading
