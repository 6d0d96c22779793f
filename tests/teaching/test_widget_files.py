"""The widgets' scripts and style sheets: linted, offline and packaged (in a browser: test_browser.py)."""

import re
import shutil
import subprocess
import sysconfig
import tomllib
from pathlib import Path

import pytest
import tinycss2

from labsupport.core.files import ROOT

FILES = sorted(path for kind in ("js", "css") for path in (ROOT / "labsupport").rglob(f"*.{kind}"))
SCRIPTS = [path for path in FILES if path.suffix == ".js"]
STYLES = [path for path in FILES if path.suffix == ".css"]
RULES = Path(__file__).with_name("oxlint.json")
OXLINT = shutil.which("oxlint", path=sysconfig.get_path("scripts"))


def lint(*paths: Path) -> list[str]:
    """What oxlint finds in scripts, one line each: "file.js:3:7: sentence [rule]"."""
    assert OXLINT, "oxlint is pinned in pyproject.toml and not installed"
    command = [OXLINT, "--config", RULES, "--format", "unix", *paths]
    done = subprocess.run(command, capture_output=True, text=True)
    found = [line for line in done.stdout.splitlines() if re.match(r".+:\d+:\d+: ", line)]
    assert done.returncode == bool(found), done.stdout + done.stderr
    return found


def declarations(css: str) -> list[tuple]:
    """(selector, node) for each declaration of a style sheet, and for whatever stands in place of one."""
    found = []
    for rule in tinycss2.parse_stylesheet(css, skip_comments=True, skip_whitespace=True):
        if rule.type == "qualified-rule":
            selector = tinycss2.serialize(rule.prelude).strip()
            nodes = tinycss2.parse_blocks_contents(rule.content, skip_comments=True, skip_whitespace=True)
            found += [(selector, node) for node in nodes]
        else:
            found.append(("", rule))
    return found


def faults(css: str, scripts: str) -> list[str]:
    """What is wrong with a style sheet for the elements that the scripts make."""
    nodes = declarations(css)
    written = [(selector, node) for selector, node in nodes if node.type == "declaration"]
    found = [f"{node.source_line}: {node.type}" for _, node in nodes if node.type != "declaration"]
    if tinycss2.serialize(tinycss2.parse_component_value_list(css)) != css:
        found.append("something is not closed")
    names = [f"{selector} {node.lower_name}" for selector, node in written]
    found += [f"{name} stands there twice" for name in sorted({n for n in names if names.count(n) > 1})]
    merged = [node for _, node in written if any(token == ":" for token in node.value)]
    found += [f"{node.source_line}: no semicolon after {node.name}" for node in merged]
    own = {node.name for _, node in written}
    used = set(re.findall(r"var\((--(?!jp-|vscode-)[\w-]+)", css))
    found += [f"{name} has no value" for name in sorted(used - own)]
    classes = {name for selector, _ in nodes for name in re.findall(r"\.([a-z][\w-]*)", selector)}
    own = {name for name in classes if not name.startswith("widget-")}  # those are ipywidgets'
    return found + [f"no script makes a .{name}" for name in sorted(own) if f'"{name}"' not in scripts]


# ---------------------------------------------------------------- what the course has


def test_there_is_something_to_lint():
    assert {"quiz_widget.js", "quiz_widget.css", "explorer_shell.js", "explorer_shell.css"} <= {
        path.name for path in FILES
    }


def test_scripts_are_clean():
    assert lint(*SCRIPTS) == []


@pytest.mark.parametrize("path", STYLES, ids=lambda path: path.name)
def test_style_is_clean(path):
    makers = [*SCRIPTS, path.with_suffix(".py")]  # a class is given by the widget or by its Python
    scripts = "".join(maker.read_text(encoding="utf-8") for maker in makers)
    assert faults(path.read_text(encoding="utf-8"), scripts) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_lines_fit_the_page(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if len(line) > 110 or line != line.rstrip() or "\t" in line] == []


def test_no_script_hides_in_a_string():
    """Where no linter sees it."""
    sign = re.compile(r"_(esm|css) = [fr]*[\"']|addEventListener|document\.createElement")
    texts = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "labsupport").rglob("*.py")}
    assert texts and [name for name, text in texts.items() if sign.search(text)] == []


def test_files_are_packaged():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert {"*.js", "*.css"} <= set(settings["package-data"]["*"])


# ---------------------------------------------------------------- that the linters see something


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("function render( {", "Expected"),
        ("documnt.title = 'x';", "no-undef"),
        ("const unused = 1;", "no-unused-vars"),
        ("document.body.innerHTML = location.hash;", "no-restricted-properties"),
        ("document.body.insertAdjacentHTML('beforeend', location.hash);", "no-restricted-properties"),
        ("import * as d3 from 'https://cdn.example/d3.js'; d3.run();", "no-restricted-imports"),
        ("await import('./helper.js');", "no-restricted-imports"),
        ("await fetch('https://example.org');", "no-restricted-globals"),
        ("eval(location.hash);", "no-eval"),
        ("if (location.hash == 1) location.reload();", "eqeqeq"),
        ("const a = 1; if (a = 2) location.reload();", "no-const-assign"),
    ],
)
def test_broken_script_is_found(tmp_path, line, rule):
    script = tmp_path / "broken.js"
    script.write_text(f"{SCRIPTS[0].read_text(encoding='utf-8')}\n{line}\n")
    assert any(rule in found for found in lint(script)), lint(script)


SOUND = """.lab-box { --text: red; color: var(--text); margin: 0 }
.lab-box [data-right="true"] { color: blue; }
"""
MADE = 'className: "lab-box"'


def test_sound_style_is_clean():
    assert faults(SOUND, MADE) == []


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("color: blue;", "color: blue; color: red;", "color stands there twice"),
        ("margin: 0 }", "margin: 0", "1: qualified-rule"),
        ("color: blue; }", "color: blue;", "something is not closed"),
        ("blue; }", "blue; } }", "2: error"),
        ("red; color", "red color", "1: no semicolon after --text"),
        ("color: blue", "color blue", "2: error"),
        ('"true"]', '"true]', "2: error"),
        ("--text: red", "--paper: red", "--text has no value"),
        (".lab-box [", ".lab-bx [", "no script makes a .lab-bx"),
    ],
)
def test_broken_style_is_found(old, new, text):
    assert old in SOUND
    found = faults(SOUND.replace(old, new), MADE)
    assert any(text in fault for fault in found), found
