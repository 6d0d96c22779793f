"""What stands around the notebooks, in JupyterLab: contents page, links, glossary, layout, a restart."""

import json
import re

import browser_lab
import pytest
from playwright.sync_api import expect

from labsupport.core.files import ROOT
from labsupport.teaching import quiz
from labsupport.teaching.questions import ChoiceQuestion
from labsupport.upkeep import heads

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CURRENT = "window.jupyterapp.shell.currentWidget"
COURSE = [heads.of(master) for master in heads.masters()]
DOCUMENT = ".lm-DockPanel-widget:not(.lm-mod-hidden)"


@pytest.fixture
def page(chromium, lab, monkeypatch):
    """The contents page in a small window, with the layout of a first start."""
    monkeypatch.syspath_prepend(str(ROOT))
    import lab as bootstrap

    for file in (lab.folder / ".lab" / "workspaces").glob("default-*"):
        file.write_text(json.dumps(bootstrap.LAYOUT))
    context = chromium.new_context(viewport={"width": 700, "height": 900})
    page = browser_lab.Notebook(context, lab, "my_work/contents.ipynb", layout="")
    yield page
    page.shut_down()
    context.close()


def follow(page, link: str, to: str) -> None:
    """Click on a link of the document that is shown, and wait for the one it leads to."""
    page.page.locator(f"{DOCUMENT} a:text-is('{link}')").first.click()
    page.page.wait_for_function(f"{CURRENT}?.title.label === '{to}'")


def test_the_contents_page_comes_first_and_leads_everywhere(page):
    first, second, *_ = COURSE
    table = page.output("table")
    expect(table.locator("tbody tr")).to_have_count(len(COURSE))
    expect(table).to_contain_text("exercises 0 of")  # and nothing was run
    assert [page.cut_off(width) for width in browser_lab.NARROW] == [[], []]
    page.expect_accessible(".jp-OutputArea-output")
    page.expect_accessible(".jp-MarkdownCell .jp-RenderedMarkdown", but=browser_lab.LINKS)
    follow(page, first.label, f"{first.name}.ipynb")
    follow(page, f"{second.label} →", f"{second.name}.ipynb")
    follow(page, f"← {first.label}", f"{first.name}.ipynb")
    follow(page, "Contents", "contents.ipynb")
    follow(page, "The five guides", "guides.md")
    expect(page.page.locator(".jp-MarkdownViewer h1")).to_contain_text("The five guides")
    page.expect_no_error()


def test_the_file_browser_is_closed_and_the_notebook_has_the_window(page):
    assert page.page.evaluate("window.jupyterapp.shell.leftCollapsed")
    for width in browser_lab.NARROW:
        page.page.set_viewport_size({"width": width, "height": 900})
        page.settle()
        assert page.page.evaluate(f"{CURRENT}.node.getBoundingClientRect().width") > 0.85 * width


def test_a_glossary_link_shows_its_term(page):
    """Far down the page; by a link such as masters have."""
    change = f"(text) => {CURRENT}.content.widgets[0].model.sharedModel.setSource(text)"
    page.page.evaluate(change, "[a factor](../glossary.md#rslora)")
    follow(page, "a factor", "glossary.md")
    term = page.page.locator(".jp-MarkdownViewer strong:text-is('rsLoRA.')")
    expect(term).to_be_in_viewport()
    assert term.bounding_box()["y"] < 200


def test_set_up_cells_are_folded_and_open_by_a_click(chromium, lab):
    with browser_lab.opened(chromium, lab, f"my_work/{COURSE[0].name}.ipynb") as notebook:
        tags = [cell["metadata"].get("tags", []) for cell in notebook.cells()]
        expected = sum("setup" in tag for tag in tags)
        folded = notebook.page.locator(".jp-CodeCell .jp-InputPlaceholder:visible")
        expect(folded).to_have_count(expected)
        folded.first.click()
        expect(folded).to_have_count(expected - 1)
        source = notebook.page.locator(".jp-CodeCell .jp-InputArea-editor:visible").first
        expect(source).to_contain_text("importlib.util")


def test_after_a_restart_all_can_be_run_again(chromium, lab):
    """Before that the widgets of old say what to do; the answer that was given stays."""
    lab.progress.unlink(missing_ok=True)
    name = COURSE[-1].name
    question = next(q for q in quiz.catalogue()[name] if isinstance(q, ChoiceQuestion))
    place = quiz.catalogue()[name].index(question)
    right = next(i for i, choice in enumerate(question.choices) if choice.right)
    cells = (f"from labsupport.teaching import quiz\nquiz.ask({name!r})", "1 + 1")
    with browser_lab.opened(chromium, lab, lab.write("restarted", *cells)) as notebook:
        notebook.run_all()
        form = notebook.output(".lab-quiz form").nth(place)
        answer(form, right)
        expect(form.get_by_role("status")).to_contain_text("Right.")
        notebook.page.evaluate(f"async () => {{ await {browser_lab.KERNEL}.restart(); }}")
        notebook.page.wait_for_function(f"{browser_lab.KERNEL}?.status === 'idle'")
        answer(form, right)
        expect(form.get_by_role("status")).to_contain_text("run this cell again")
        notebook.run_all()
        form = notebook.output(".lab-quiz form").nth(place)
        expect(form.get_by_role("status")).to_contain_text(re.compile("Answered on .*: right"))
        answer(form, (right + 1) % len(question.choices))
        expect(form.get_by_role("status")).to_contain_text("Not right.")


def answer(form, place: int) -> None:
    form.get_by_role("radio").nth(place).check()
    form.get_by_role("button", name="Check").click()


def test_a_saved_notebook_is_opened_again_with_its_questions(chromium, lab):
    path = lab.write("saved", f"from labsupport.teaching import quiz\nquiz.ask({COURSE[-1].name!r})")
    with browser_lab.opened(chromium, lab, path) as notebook:
        notebook.run_all()
        notebook.page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
        notebook.page.wait_for_function(f"!{CURRENT}.context.model.dirty")
    with browser_lab.opened(chromium, lab, path) as notebook:
        expect(notebook.output(".lab-quiz form").first).to_be_visible()
        notebook.expect_no_error()
