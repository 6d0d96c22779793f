"""docs/renting.md is followed on a machine that costs money: each command of `lab.py` in it must be one."""

import importlib.util
import json
import re
import shlex
import subprocess
import sys

import pytest

from labsupport import cli
from labsupport.core.files import ROOT
from labsupport.sizes import gpus

PAGE = ROOT / "docs" / "renting.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)
LINES = [line for block in BLOCKS for line in block.splitlines()]
MENTIONS = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", TEXT, flags=re.MULTILINE | re.DOTALL))


def words_after_lab(line: str) -> list[str] | None:
    """What follows `lab.py` in a line of a shell; None where it is not called."""
    words = shlex.split(line, comments=True)
    programs = [place for place, word in enumerate(words) if word.endswith("lab.py")]
    return words[programs[0] + 1 :] if programs else None


def words_of_mention(text: str) -> list[str] | None:
    """The same of a sentence, where `start --torch cuda` stands for `lab.py start --torch cuda`."""
    verb, *rest = text.split()
    bare = rest and verb in {*cli.START_AND_TEST, *cli.names()}
    return [verb, *rest] if bare else words_after_lab(text)


WHOLE = [words for line in LINES if (words := words_after_lab(line))]
NAMED = [words for text in sorted(set(MENTIONS)) if (words := words_of_mention(text))]


def parser_of(verb: str) -> cli.Parser:
    parser = cli.subparsers(cli.Parser(prog="lab.py"), [verb], maintainers=True)[verb]
    cli.load(verb).arguments(parser)
    return parser


def options_of(verb: str, capsys) -> set[str]:
    """Of `start`, which is in lab.py itself, by its help: its parser is made when it is called."""
    if verb != "start":
        return set(parser_of(verb)._option_string_actions)
    spec = importlib.util.spec_from_file_location("lab_of_the_page", ROOT / "lab.py")
    lab = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(lab)
    with pytest.raises(SystemExit) as end:
        lab.start(["--help"])
    assert end.value.code == 0
    return set(re.findall(r"--[a-z-]+", capsys.readouterr().out))


def test_the_page_has_the_commands_it_is_for():
    verbs = {words[0] for words in WHOLE}
    assert {"plan", "cost", "preflight", "start", "doctor", "gpu-hour"} <= verbs


@pytest.mark.parametrize("words", WHOLE + NAMED, ids=" ".join)
def test_a_command_has_a_verb_and_options_that_exist(words, capsys):
    verb, *rest = words
    asked = {word for word in rest if word.startswith("--")}
    assert asked - options_of(verb, capsys) == set()


@pytest.mark.parametrize("words", [words for words in WHOLE if words[0] != "start"], ids=" ".join)
def test_a_command_of_a_block_is_taken_as_it_stands(words):
    verb, *rest = words
    parser_of(verb).parse_args(rest)


def test_no_command_opens_the_server_or_carries_a_secret():
    bad = [line for line in LINES if re.search(r"0\.0\.0\.0|[Tt]oken=|hf_\w|\*:\d|--token\b", line)]
    assert bad == []


def test_a_providers_jupyterlab_gets_the_courses_kernel(tmp_path, monkeypatch):
    """Run as it stands there, but for the folder of a user."""
    (line,) = [line for line in LINES if "ipykernel" in line]
    python, *rest = shlex.split(line)
    assert python == ".venv/bin/python"
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path))
    subprocess.run([sys.executable, *rest], check=True, capture_output=True, timeout=300)
    kernel = json.loads((tmp_path / "kernels" / "lora-lab" / "kernel.json").read_text())
    assert kernel["argv"][0] == sys.executable and kernel["display_name"]


def test_the_table_of_cards_says_what_plan_assumes():
    rows = re.findall(
        r"^\| (.+?, \d+ GB) \| ([\d.]+) GiB \| (\d+)\.(\d) \| (yes|no)", TEXT, flags=re.MULTILINE
    )
    assert len(rows) == 5
    for name, memory, major, minor, bf16 in rows:
        card = gpus.find(name.replace(",", ""))
        assert (float(memory), (int(major), int(minor))) == (card.memory_gib, card.capability)
        assert (bf16 == "yes") == (card.capability >= (8, 0))


def test_the_readme_leads_to_the_page():
    assert "](docs/renting.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
