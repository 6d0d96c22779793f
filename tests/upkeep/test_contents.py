"""The frame around the notebooks: heads, contents page, and every link to a place that exists."""

import re

import nbformat
import pytest

from labsupport.core import course
from labsupport.core.files import ROOT
from labsupport.teaching import answer_store, progress, quiz
from labsupport.upkeep import contents, heads, notebook_builder

MASTERS = heads.masters()
LINK = re.compile(r"\[[^\]]*\]\((?!attachment:)([^)\s]+)\)")
ANCHOR = re.compile(r'<a id="([^"]+)"></a>')
TERM = re.compile(r'<a id="([^"]+)"></a>\*\*(.+?)\.\*\* (.+) \*Notebooks? ([\d and]+)\.\*')
MASTER = """# %% [markdown]
# # 02 · A title
#
# **In one sentence**: you write a layer,
# and see.
#
# **Minutes**: 40 to read and do, 2 to run all cells.

# %% [markdown]
# ### Exercise 1
#
# > **20 minutes · ●●○**
# >
# > Do it.

# %% [markdown]
# > **1 minute · ●○○**
"""


@pytest.fixture(autouse=True)
def answers(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_PROGRESS", str(tmp_path / "progress.json"))


# ---------------------------------------------------------------- heads


def test_a_head_is_read_from_its_master(tmp_path):
    master = tmp_path / "02_a.py"
    master.write_text(MASTER)
    head = heads.of(master)
    assert (head.label, head.sentence) == ("02 A title", "you write a layer, and see.")
    assert (head.reading, head.running) == (40, 2)
    assert heads.faults(master) == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("# # 02 · A title", "# # A title", "no title of the form"),
        ("**In one sentence**", "**One sentence**", "no line `**In one sentence**"),
        ("you write", "you " * 60 + "write", "characters what it gives"),
        ("40 to read", "about 40 to read", "no line `**Minutes**"),
        ("40 to read", "20 to read", "promises 20 minutes, and its exercises alone have 21"),
    ],
)
def test_what_a_head_lacks_is_said(tmp_path, old, new, words):
    master = tmp_path / "02_a.py"
    assert old in MASTER
    master.write_text(MASTER.replace(old, new, 1))
    (fault,) = heads.faults(master)
    assert words in fault


# ---------------------------------------------------------------- the contents page


def test_the_learners_page_shows_every_notebook_and_the_progress_made(monkeypatch, tmp_path):
    monkeypatch.setattr(contents, "WORK", tmp_path)
    exercise, *_ = progress.exercise_names("03_counting_parameters")
    first, second, *_ = quiz.catalogue()["03_counting_parameters"]
    answer_store.record(exercise, "passed", True)
    answer_store.record(first.kept_as, "a", True)
    answer_store.record(second.kept_as, "a", False)
    written = nbformat.read(contents.write(), as_version=4)
    nbformat.validate(written)
    (output,) = written.cells[1].outputs
    lines = output.data["text/markdown"].splitlines()[2:]
    assert len(lines) == len(MASTERS)
    for line, master in zip(lines, MASTERS, strict=True):
        head = heads.of(master)
        assert f"[{head.label}]({master.stem}.ipynb)" in line and head.sentence[1:] in line
        changed = master.stem == "03_counting_parameters"
        assert (", questions 1 of" if changed else ", questions 0 of") in line
        assert ("exercises 1 of" if changed else "exercises 0 of") in line
    assert "exercises 1 of" in output.data["text/plain"]


def test_the_cell_of_the_page_brings_it_up_to_date(monkeypatch, tmp_path):
    monkeypatch.setattr(contents, "WORK", tmp_path)
    source = nbformat.read(contents.write(), as_version=4).cells[1].source
    answer_store.record(progress.exercise_names("03_counting_parameters")[0], "passed", True)
    *statements, last = source.splitlines()
    namespace = {}
    exec("\n".join(statements), namespace)  # noqa: S102 - our own notebook
    assert "exercises 1 of" in eval(last, namespace)._repr_markdown_()


def test_pages_of_the_repository_are_nobodys(monkeypatch):
    for page in notebook_builder.contents_pages().values():
        (output,) = page.cells[1].outputs
        assert "your progress" not in output.data["text/markdown"]
        assert "exercises" not in output.data["text/plain"]


def test_a_damaged_progress_file_is_told_on_the_page(tmp_path):
    (tmp_path / "progress.json").write_text("{")
    page = contents.page()
    assert page._repr_markdown_().startswith("progress.json was damaged") or "was damaged" in page.note
    assert page.note in page._repr_markdown_() and page.note in repr(page)


# ---------------------------------------------------------------- links and terms


def texts():
    """(where, folder that its links count from, text) of all that a learner may click in."""
    for master in MASTERS:
        for cell in notebook_builder.student_edition(master).cells:
            if cell.cell_type == "markdown":
                yield cell.id, ROOT / "notebooks", cell.source
    for page in ("glossary.md", "guides.md"):
        yield page, ROOT, (ROOT / page).read_text(encoding="utf-8")
    for page in notebook_builder.contents_pages().values():
        yield (
            "contents",
            ROOT / "notebooks",
            "\n\n".join(c.source for c in page.cells if c.cell_type != "code"),
        )


def test_every_link_leads_somewhere():
    """Anchors in the two pages of text are looked up; `my_work/` exists once the course was started."""
    found, broken = 0, []
    for where, folder, text in texts():
        for target in LINK.findall(text):
            path, _, anchor = target.partition("#")
            found += 1
            if path.startswith("../my_work/"):
                path = path.replace("../my_work/", "")
            file = (folder / path).resolve()
            if path and not file.exists():
                broken.append(f"{where}: {target}")
            elif anchor and file.suffix == ".md" and anchor not in anchors(file):
                broken.append(f"{where}: {target} has no such anchor")
    assert found > 20 and broken == []


def anchors(file):
    return ANCHOR.findall(file.read_text(encoding="utf-8"))


def test_the_glossary_is_in_order_and_each_term_has_its_anchor_and_notebook():
    _, _, *paragraphs = (ROOT / "glossary.md").read_text(encoding="utf-8").strip().split("\n\n")
    terms, numbers = [], {master.stem[:2] for master in MASTERS}
    for paragraph in paragraphs:
        found = TERM.fullmatch(" ".join(paragraph.split()))
        assert found, paragraph
        anchor, term, said, where = found.groups()
        terms.append(term.lower())
        assert anchor == re.sub("[ /]", "-", term.lower())
        assert 20 < len(said) < 400, term
        assert set(where.split(" and ")) <= numbers, term
    assert terms == sorted(set(terms))


def test_an_exercise_is_recorded_under_the_name_that_its_notebook_uses():
    for name, folder in course.notebooks().items():
        exercises, asked = course.module(folder, "exercises"), progress.exercise_names(name)
        assert len(asked) >= 3
        assert asked == [getattr(exercises, known.partition(".")[2]).name for known in asked]


def test_minutes_and_difficulty_in_the_text_are_the_exercises():
    for name, folder in course.notebooks().items():
        exercises, asked = course.module(folder, "exercises"), progress.exercise_names(name)
        wanted = [getattr(exercises, known.partition(".")[2]).effort for known in asked]
        text = heads.read_text(heads.SOLUTIONS / f"{name}.py")
        written = re.findall(r"^# > \*\*(\d+ minutes?) · ([●○]{3})\*\*", text, re.MULTILINE)
        assert [", ".join(parts) for parts in written] == wanted, name


def test_the_five_guides_have_their_anchors():
    assert anchors(ROOT / "guides.md") == [f"guide-{number:03d}" for number in range(5)]
