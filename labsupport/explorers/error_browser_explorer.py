"""The error browser: every test row with its message, the expected answer and each model's, those that differ
marked, and how often each field is wrong."""

from __future__ import annotations

import functools
import html
import json

import ipywidgets as widgets
from IPython.display import HTML

from labsupport.core import plots
from labsupport.core.files import LabError, nearest_first
from labsupport.core.numbers import shown, whole
from labsupport.explorers import error_rows
from labsupport.explorers.error_rows import EVERY, OUTCOMES, Answer, Data, Row
from labsupport.teaching.explorer_shell import Explorer, View

PAGE = 10  # rows shown at a time
LONGEST = 140  # characters shown of a reply that is no valid answer

LOOKS = ({"color": plots.BLUE, "alpha": 0.55, "hatch": "//"}, {"color": plots.ORANGE})
# Where there is room the list stands beside the figure, else below it.
BESIDE = "display: flex; flex-flow: row-reverse wrap; gap: 12px; align-items: flex-start"
SCROLLED = "flex: 3 1 30rem; min-width: 0; max-height: 270px; overflow: auto"
PICTURE = "flex: 1 1 18rem; max-width: 480px"
TABLE = "border-collapse: collapse; width: 100%; margin: 0; text-align: left"
STUCK = "position: sticky; top: 0; background: var(--jp-layout-color1, Canvas)"  # over what is scrolled
HEAD = f"text-align: left; padding: 2px 12px 2px 0; {STUCK}"
MESSAGE = "text-align: left; font-weight: normal; white-space: normal; padding: 10px 12px 2px 0"
CELL = "text-align: left; vertical-align: top; white-space: normal; padding: 1px 12px 1px 0"
NAME = f"{CELL}; font-weight: normal; white-space: nowrap"
MARK = "color: inherit; background: rgba(213, 94, 0, 0.22); border-bottom: 3px solid #D55E00"


def view(rows: list[dict] | None = None, answers: dict[str, dict] | None = None, **filters) -> View:
    """The rows that pass the filters, see `view_of`: of the published records, or your own rows and answers,
    see `error_rows.own`."""
    return view_of(chosen(rows, answers), **filters)


def chosen(rows: list[dict] | None, answers: dict[str, dict] | None) -> Data:
    if rows is None and answers is None:
        return error_rows.recorded()
    return error_rows.own(rows or [], answers or {})


def view_of(
    data: Data,
    set: str | None = None,
    model: str | None = None,
    outcome: str = "wrong",
    field: str = EVERY,
    text: str = "",
    page: int = 1,
) -> View:
    """The rows of a set that pass the filters, ten at a time, and how often each field is wrong.

    outcome: what that model, the first by default, did in that field or in all of them together. text: what
    id, message, expected answer or the model's reply must have. LabError for a filter that does not exist.
    """
    set, model = set or data.first, model or data.models[0]
    for what, value, known in (
        ("set", set, list(data.sets)),
        ("model", model, data.models),
        ("outcome", outcome, OUTCOMES),
        ("field", field, [EVERY, *data.fields]),
    ):
        if value not in known:
            raise LabError(f"Unknown {what} {shown(value)}. There are: {nearest_first(str(value), known)}.")
    found, among = error_rows.passing(data.sets[set], data.models, model, outcome, field)
    found = [row for row in found if error_rows.has(row, model, text)]
    pages = max(1, -(-len(found) // PAGE))
    asked = whole(page, "page")
    page = min(asked, pages)
    here = found[(page - 1) * PAGE : page * PAGE]
    words = f' and "{text.strip()}"' if text.strip() else ""
    where = "" if len(among) == len(data.sets[set]) else " for which that is recorded"
    heading = f"{question(model, outcome, field)}{words}: {len(found)} of {len(among)} {set} rows{where}."
    missing = f"; there is no page {asked}" if asked != page else ""
    heading += f" Page {page} of {pages}{missing}." if pages > 1 or missing else ""
    left_out = never_right(data, set, outcome, field)
    fig, alt = figure(data, set, model)
    drawing = HTML(beside(listed(here, data, left_out), plots.show(fig, alt).data))
    return View(heading, [line(row, data) for row in here], drawing=drawing)


def question(model: str, outcome: str, field: str) -> str:
    """What the filters ask for, as the beginning of a sentence."""
    return {
        "any": "Every row",
        "wrong": f"{model}, {field} wrong",
        "only this model wrong": f"{model} alone, {field} wrong",
        "all models right": f"All models, {field} right",
        "invalid JSON": f"{model}, no valid JSON",
    }[outcome]


def never_right(data: Data, set: str, outcome: str, field: str) -> str:
    """Which models a filter that compares them leaves out, in a sentence."""
    if outcome not in ("only this model wrong", "all models right"):
        return ""
    kept = error_rows.compared(data.sets[set], data.models, field)
    out = [model for model in data.models if model not in kept]
    return f"Left out of the comparison, as never right here: {', '.join(out)}." if out else ""


# ---------------------------------------------------------------- the figure


def figure(data: Data, set: str, model: str):
    """Share of rows that are wrong, by field and set, with intervals; and what it shows, in sentences."""
    shares, fields = error_rows.rates(data, model), [EVERY, *data.fields]
    fig, axes = plots.figure(height=2.9, place=(0.24, 0.17, 0.73, 0.66))
    fig.set_size_inches(4.3, 2.9)
    height = 0.8 / len(shares)
    for number, (name, of_field) in enumerate(shares.items()):
        places = [fields.index(field) + (number + 0.5) * height - 0.4 for field in of_field]
        means, lows, highs = ([100 * share[part] for share in of_field.values()] for part in range(3))
        low = [mean - low for mean, low in zip(means, lows, strict=True)]
        high = [high - mean for mean, high in zip(means, highs, strict=True)]
        look = LOOKS[number % len(LOOKS)]
        axes.barh(places, means, height, xerr=[low, high], label=name, error_kw={"elinewidth": 1}, **look)
    axes.set_yticks(range(len(fields)), fields)
    axes.invert_yaxis()
    axes.set(xlim=(0, 100), xlabel="rows wrong (%), 95 % intervals")
    axes.grid(axis="y", visible=False)
    if len(shares) > 1:
        axes.legend(loc="lower right", fontsize=9, frameon=True, framealpha=0.9, edgecolor="white")
    title = finding(shares, set, model)
    axes.set_title(title, fontsize=10)
    numbers = "; ".join(
        f"{name}: " + ", ".join(f"{field} {100 * share[0]:.0f} %" for field, share in of_field.items())
        for name, of_field in shares.items()
        if of_field
    )
    return fig, f"Bars of wrong rows by field. {title.replace(chr(10), ' ')}. {numbers}."


def finding(shares: dict, set: str, model: str) -> str:
    """The figure's title, in two short lines."""
    of_field = {field: share[0] for field, share in shares[set].items() if field != EVERY}
    if not of_field:
        return f"{model}: fields are not recorded\nfor {set} rows"
    field = max(of_field, key=of_field.get)
    if not of_field[field]:
        return f"{model}: no field is ever wrong\nin {set} rows"
    often = (
        "every field is wrong equally"
        if len({*of_field.values()}) == 1 < len(of_field)
        else f"{field} is wrong most"
    )
    return f"{model}: {often} often,\nin {100 * of_field[field]:.0f} % of {set} rows"


# ---------------------------------------------------------------- the list


def beside(rows: str, picture: str) -> str:
    """The figure and the list next to each other where there is room."""
    box = f'<div role="group" aria-label="rows" tabindex="0" style="{SCROLLED}">{rows}</div>'
    return f'<div style="{BESIDE}"><div style="{PICTURE}">{picture}</div>{box}</div>'


def listed(rows: list[Row], data: Data, remark: str) -> str:
    """The rows as one HTML table: under each message what is expected and a line for each model."""
    if not rows:
        return f"<p>No row passes these filters. {html.escape(remark)}</p>"
    head = "".join(
        f'<th scope="col" style="{HEAD}">{html.escape(name)}</th>' for name in ("who", *data.fields)
    )
    bodies = "".join(body(row, data) for row in rows)
    bare = any(
        row.answers[model].right and not row.answers[model].reply for row in rows for model in data.models
    )
    legend = "✗ differs from what is expected; ↵ is a line break. " + (BARE if bare else "")
    legend += ". ".join(filter(None, [data.about, remark]))
    table = f'<table style="{TABLE}"><thead><tr>{head}</tr></thead>{bodies}</table>'
    text = f'{table}<p style="margin: 8px 0 0">{html.escape(legend)}</p>'
    return text.replace("$", "<span>$</span>")  # JupyterLab would set what stands between two as a formula


BARE = "✓ or ✗ without a value: whether it was right is recorded, the value is not. "


def body(row: Row, data: Data) -> str:
    """A message and the answers to it, as lines of the table."""
    text = html.escape(" ↵ ".join(filter(None, map(str.strip, row.text.splitlines()))))
    message = f"<b>{html.escape(row.id)}</b> {text}"
    span = f'colspan="{1 + len(data.fields)}"'
    expected = "".join(cell(html.escape(written(value))) for value in row.expected.values())
    lines = [
        f'<th scope="rowgroup" {span} style="{MESSAGE}">{message}</th>',
        f'<th scope="row" style="{NAME}">expected</th>{expected}',
        *(answered(model, row.answers[model], len(data.fields)) for model in data.models),
    ]
    return "<tbody>" + "".join(f"<tr>{cells}</tr>" for cells in lines) + "</tbody>"


def answered(model: str, answer: Answer, fields: int) -> str:
    """A model's line: its values, those that differ marked, or in words what is known of its answer."""
    name = f'<th scope="row" style="{NAME}">{sign(answer.exact)} {html.escape(model)}</th>'
    if answer.right is None or answer.invalid:
        words = marked("✗ no valid JSON") + " " if answer.invalid else ""
        return name + cell(words + html.escape(in_words(answer)), f'colspan="{fields}"')
    cells = []
    for field, right in answer.right.items():
        value = html.escape(written(answer.label.get(field))) if answer.label is not None else ""
        cells.append(cell(value or sign(True)) if right else cell(marked(f"✗ {value}".strip())))
    return name + "".join(cells)


def cell(content: str, span: str = "") -> str:
    return f'<td {span} style="{CELL}">{content}</td>'


def marked(text: str) -> str:
    """<mark> says it also where styles are taken off, as on GitHub."""
    return f'<mark style="{MARK}">{text}</mark>'


def in_words(answer: Answer) -> str:
    if answer.invalid:
        return cut(answer.reply, LONGEST) or "nothing at all"
    return "not recorded" if answer.exact is None else "its reply was not recorded"


def sign(right: bool | None) -> str:
    return {True: "✓", False: "✗", None: "–"}[right]


def written(value) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def cut(text: str, length: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else f"{text[: length - 1]}…"


def line(row: Row, data: Data) -> dict[str, str]:
    """The same row for the table twin and for plain text."""
    cells = {"row": row.id, "message": cut(row.text, 80)}
    cells["expected"] = " · ".join(map(written, row.expected.values()))
    for model in data.models:
        answer = row.answers[model]
        wrong = [field for field, right in (answer.right or {}).items() if not right]
        said = answer.label or {}
        parts = [f"{field}: {written(said[field])}" if field in said else field for field in wrong]
        words = cut(in_words(answer), 60) if answer.right is None else ", ".join(parts)
        words = f"no valid JSON: {cut(in_words(answer), 45)}" if answer.invalid else words
        cells[model] = f"{sign(answer.exact)} {words}".strip()
    return cells


# ---------------------------------------------------------------- the controls


def explore(rows: list[dict] | None = None, answers: dict[str, dict] | None = None, **filters) -> Explorer:
    """The view with controls, starting at these filters (see `view_of`); LabError for one that does not
    exist, and for rows of your own without ids."""
    data = chosen(rows, answers)
    view_of(data, **filters)
    start = {"set": data.first, "model": data.models[0], "outcome": "wrong", "field": EVERY} | filters
    lists = {
        "set": (list(data.sets), "test set"),
        "model": (data.models, "model"),
        "outcome": (OUTCOMES, "outcome"),
        "field": ([EVERY, *data.fields], "right or wrong in"),
    }
    controls = {
        name: widgets.Dropdown(options=options, value=start[name], description=label)
        for name, (options, label) in lists.items()
    }
    pages = max(1, *(-(-len(each) // PAGE) for each in data.sets.values()))
    page = min(start.get("page", 1), pages)
    controls["page"] = widgets.BoundedIntText(min=1, max=pages, value=page, description="page")
    controls["text"] = widgets.Textarea(
        value=start.get("text", ""),
        rows=1,
        continuous_update=False,
        description="with the text (looked for when you leave the box)",
    )
    return Explorer(functools.partial(view_of, data), controls, "Error browser")
