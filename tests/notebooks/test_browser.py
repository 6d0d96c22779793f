"""Notebooks, explorers and quizzes in JupyterLab, in headless Chromium, by keyboard and offline."""

import json
import os
import re
from pathlib import Path

import browser_lab
import nbformat
import pytest
import tinycss2
from playwright.sync_api import expect
from run import IN_BROWSER

from labsupport.core import course
from labsupport.core.files import ROOT
from labsupport.teaching import quiz
from labsupport.teaching.questions import ChoiceQuestion, NumberQuestion

pytestmark = pytest.mark.browser

SOURCES = {
    name: "\n".join(cell.source for cell in nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", 4).cells)
    for name in IN_BROWSER
}
EXPLORERS = {  # those of the notebooks above are driven there
    name: module
    for name, module in course.parts("explorer").items()
    if f"{name}_explorer.explore(" not in "".join(SOURCES.values())
}
# Controls of the decision wizard that matter on one branch of its tree only, off the corners walked here.
ON_A_BRANCH = {
    "I have much text of the field",
    "domain text (million tokens)",
    "several GPUs",
    "preference pairs",
    "what I tried is good enough",
}


@pytest.fixture
def notebook(chromium, lab, name):
    with browser_lab.opened(chromium, lab, f"my_work/{name}.ipynb") as edition:
        yield edition


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_BROWSER)
def test_notebook_runs_from_top_to_bottom(notebook, lab, name):
    source = SOURCES[name]
    notebook.run_all()
    notebook.expect_no_error()
    if ".explore(" in source:
        drive(notebook)
        notebook.shoot(f"{name}-explorer", ".lab-explorer")
    if "quiz.ask(" in source:
        answer(notebook, lab, name)
        notebook.shoot(f"{name}-quiz", ".lab-quiz")
    notebook.shoot(name)
    for width in browser_lab.NARROW:
        assert notebook.cut_off(width) == [], width
    notebook.expect_accessible(".jp-OutputArea-output")
    notebook.expect_accessible(".jp-MarkdownCell .jp-RenderedMarkdown", but=browser_lab.LINKS)
    notebook.expect_no_error()


SLOW = """
import time

import ipywidgets as widgets

from labsupport.core import plots
from labsupport.teaching.explorer_shell import Explorer, View


def wait(seconds):
    time.sleep(seconds)
    fig, _axes = plots.figure()
    return View(f"It took {seconds} s.", [{"seconds": seconds}], fig, "Empty axes, drawn after a while.")


Explorer(wait, {"seconds": widgets.BoundedIntText(description="seconds", min=0, max=3)}, "Slow")
"""
# What was shown, however briefly: a look at the page now and then would miss it.
NOTE_WHETHER_SHOWN = """(sign) => {
  window.labShown = !sign.hidden;
  new MutationObserver(() => { window.labShown ||= !sign.hidden; }).observe(sign, { attributes: true });
}"""


@pytest.fixture(scope="module")
def explorers(chromium, lab):
    """One notebook with every explorer, run: a page of its own for each would take ten seconds more.
    The last one takes seconds for its view, on every machine."""
    cells = [f"import {module} as explorer\nexplorer.explore()" for module in EXPLORERS.values()]
    cells.append(SLOW)
    with browser_lab.opened(chromium, lab, lab.write("explorers", *cells)) as page:
        page.run_all()
        yield page


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPLORERS)
def test_explorer_by_keyboard(explorers, name):
    explorers.expect_no_error()
    drive(explorers, list(EXPLORERS).index(name))
    explorers.shoot(f"explorer-{name}")


@pytest.mark.slow
def test_explorers_are_accessible(explorers):
    explorers.expect_accessible(".lab-explorer")


@pytest.mark.slow
def test_escape_leaves_an_explorer(explorers):
    """For the cell around it, where Tab goes on and JupyterLab's shortcuts are heard again."""
    explorers.tab_into(".lab-explorer")
    box = browser_lab.Explorer(explorers, 0).box
    explorers.page.keyboard.press("Escape")
    focused = "(box) => [box.contains(document.activeElement), document.activeElement.contains(box)]"
    assert box.evaluate(focused) == [False, True]
    assert box.evaluate("(box) => document.activeElement !== document.body")


@pytest.mark.slow
def test_explorers_say_when_they_compute_and_keep_their_table_open(explorers):
    slow = browser_lab.Explorer(explorers, len(EXPLORERS))
    table, sign = slow.box.locator("table"), slow.box.locator(".lab-busy")
    expect(table).to_be_hidden()
    slow.box.locator("summary").press("Enter")
    expect(table).to_be_visible()
    expect(sign).to_be_hidden()
    sign.evaluate(NOTE_WHETHER_SHOWN)
    slow.put(slow.controls[0], "high")
    expect(slow.box.locator("p").first).to_have_text("It took 3 s.")
    expect(sign).to_be_hidden()
    assert explorers.page.evaluate("window.labShown")
    expect(table).to_contain_text("3")
    expect(table).to_be_visible()


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 700])
def test_nothing_of_an_explorer_is_cut_off(explorers, width):
    """In a narrow window too: no control, label or figure is wider than its explorer."""
    page = explorers.page
    page.set_viewport_size({"width": width, "height": 1000})
    explorers.settle()
    for number, name in enumerate(EXPLORERS):
        box = browser_lab.Explorer(explorers, number).box
        assert box.evaluate(CUT_OFF) == [], name
        if "LAB_SHOTS" in os.environ:
            box.screenshot(path=Path(os.environ["LAB_SHOTS"]) / f"explorer-{name}-{width}.png")
    page.set_viewport_size({"width": 1280, "height": 1000})


CUT_OFF = """(box) => {
  const right = box.getBoundingClientRect().right;
  const parts = [...box.querySelectorAll("select, input, button, label, img, p, summary")];
  const wide = (node) => node.getBoundingClientRect().right > right + 1;
  const hidden = (node) => node.tagName === "LABEL" && node.scrollWidth > node.clientWidth + 1;
  return parts.filter((node) => wide(node) || hidden(node)).map((node) => node.outerHTML.slice(0, 80));
}"""


@pytest.mark.slow
def test_lab_does_not_ask_to_fetch_news(explorers):
    """An offline course has no news, and the question covers what the learner reads."""
    plugin = "@jupyterlab/apputils-extension:notification"
    found = explorers.page.evaluate("(id) => window.jupyterapp.serviceManager.settings.fetch(id)", plugin)
    assert found["schema"]["properties"]["fetchNews"]["default"] == "false"


def test_browser_knows_every_style(chromium):
    """It leaves out, without a word, what it does not know."""
    styles = [("no-such-property", "1px"), ("color", "1px")]
    for sheet in (ROOT / "labsupport").rglob("*.css"):
        for rule in tinycss2.parse_stylesheet(sheet.read_text(), skip_comments=True, skip_whitespace=True):
            nodes = tinycss2.parse_blocks_contents(rule.content, skip_comments=True, skip_whitespace=True)
            styles += [(node.name, tinycss2.serialize(node.value).strip()) for node in nodes]
    page = chromium.new_page()
    known = page.evaluate("(styles) => styles.map(([name, value]) => CSS.supports(name, value))", styles)
    page.close()
    assert [style for style, it_is in zip(styles, known, strict=True) if not it_is] == styles[:2]


# ---------------------------------------------------------------- what several tests do


def drive(notebook, number=0):
    """Move each control of the notebook's explorer of that number to its extremes, alone and together."""
    notebook.tab_into(".lab-explorer", number)
    explorer = browser_lab.Explorer(notebook, number)
    expect(explorer.box).to_have_attribute("role", "group")
    assert explorer.controls
    for control in explorer.controls:  # in the order of Tab
        expect(control).to_be_focused()
        expect(control).to_have_accessible_name(re.compile(r"\S"))
        before = explorer.state(control)
        notebook.try_shortcuts()
        if explorer.state(control) != before:  # a letter chose from a list
            explorer.put(control, before)
            notebook.settle()
        notebook.page.keyboard.press("Tab")
    names = [explorer.name(control) for control in explorer.controls]
    moved, view = set(), explorer.shown()
    start = [explorer.state(control) for control in explorer.controls]
    for name, control, value in zip(names, explorer.controls, start, strict=True):
        low = turn(explorer, control, "low", view)
        high = turn(explorer, control, "high", low)
        if low != high:
            moved.add(name)
        view = turn(explorer, control, value, high)
    for where in ("low", "high", "low"):  # from corner to corner, one control at a time
        for name, control in zip(names, explorer.controls, strict=True):
            before, view = view, turn(explorer, control, where, view)
            if view != before:
                moved.add(name)
        notebook.expect_no_error()
    silent = set(names) - moved - ON_A_BRANCH
    assert moved and not silent, f"never change the view: {silent}"


def turn(explorer, control, place, before):
    """Put a control in a place; the view after it. If that is another one, its heading is announced."""
    explorer.put(control, place)
    view = explorer.shown()
    heading = explorer.box.locator("> .widget-html").last.locator("p").first.inner_text().strip()
    assert heading
    if view != before:
        expect(explorer.box.locator("[role=status]")).to_have_text(heading)
    return view


def answer(notebook, lab, name):
    """Answer every question of the quiz right, those with choices wrong before."""
    lab.progress.unlink(missing_ok=True)
    keyboard = notebook.page.keyboard
    notebook.tab_into(".lab-quiz")
    notebook.try_shortcuts()
    forms = notebook.output(".lab-quiz form").all()
    for form, question in zip(forms, quiz.catalogue()[name], strict=True):
        status = form.locator("[role=status]")
        if isinstance(question, ChoiceQuestion):
            right = next(i for i, choice in enumerate(question.choices) if choice.right)
            wrong = (right + 1) % len(question.choices)
            expect(form.get_by_role("radio").first).to_be_focused()
            keyboard.press("Space")
            for place, verdict in ((wrong, "Not right."), (right, "Right.")):
                while not form.get_by_role("radio").nth(place).is_checked():
                    keyboard.press("ArrowDown")
                keyboard.press("Enter")
                expect(status).to_have_text(re.compile(f"^{re.escape(verdict)} .{{20,}}", re.DOTALL))
                assert recorded(lab, question) == (verdict == "Right.")
            keyboard.press("Tab")  # to the button
        elif isinstance(question, NumberQuestion):
            keyboard.press("Control+a")  # over the keys that were tried as shortcuts
            keyboard.type(str(question.answer()))
            keyboard.press("Enter")
            expect(status).to_have_text(re.compile("^Right: "))
            assert recorded(lab, question)
            keyboard.press("Tab")
        else:
            keyboard.type("bad, dd: letters that are shortcuts elsewhere")
            keyboard.press("Tab")
            keyboard.press("Enter")
            expect(status).to_contain_text(question.model_answer[:40])
            for _ in question.rubric:
                keyboard.press("Tab")
                keyboard.press("Space")
            keyboard.press("Tab")
            keyboard.press("Enter")
            everything = len(question.rubric)
            expect(status).to_contain_text(f"{everything} of {everything} points")
            assert recorded(lab, question)
        keyboard.press("Tab")  # to the next question
    notebook.settle()
    given = json.loads(lab.progress.read_text())["answers"]
    assert set(given) == {question.kept_as for question in quiz.catalogue()[name]}


def recorded(lab, question):
    return json.loads(lab.progress.read_text())["answers"][question.kept_as]["right"]
