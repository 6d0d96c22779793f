"""The verbs inside the environment: exit status, and what goes to which stream."""

import json
import re
import subprocess
import sys

import pytest

from labsupport import cli
from labsupport.core.files import DATA, ROOT, LabError

GOOD_FILE = DATA / "tickets" / "validation.jsonl"
VERBS = cli.names()


def refused(capsys, *arguments: str) -> str:
    """The one line on standard error with which a command line ends that argparse does not take."""
    with pytest.raises(SystemExit) as end:
        cli.main(list(arguments))
    said = capsys.readouterr()
    assert end.value.code == 2 and said.out == "" and said.err.count("\n") == 1
    return said.err


# ---------------------------------------------------------------- finding and explaining the verbs


def test_the_verbs_are_the_files():
    files = {path.stem for path in (ROOT / "labsupport" / "commands").glob("[a-z]*.py")}
    assert {verb.replace("-", "_") for verb in VERBS} == files
    assert {"doctor", "plan", "cost", "claims", "build", "setup"} < set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_explains_and_does_nothing_else(verb, capsys, monkeypatch):
    monkeypatch.setattr(cli.load(verb), "run", lambda asked: pytest.fail("it ran"))
    texts = []
    for arguments in ([verb, "--help"], ["help", verb]):
        with pytest.raises(SystemExit) as end:
            cli.main(arguments)
        assert end.value.code == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert texts[0].startswith(f"usage: lab.py {verb} ")
    assert cli.load(verb).HELP in " ".join(texts[0].split())


def listed(text: str) -> list[str]:
    """The verbs in an overview."""
    return re.findall(r"^    ([a-z-]+)", text, flags=re.MULTILINE)


def test_help_shows_the_learners_verbs_and_help_all_every_one(capsys):
    assert cli.main(["help"]) == cli.main([]) == cli.main(["--help"]) == 0
    first, *others = capsys.readouterr().out.split("usage: ")[1:]
    assert others == [first, first] and "lab.py help all" in first
    learners = [verb for verb in VERBS if not getattr(cli.load(verb), "MAINTAINERS", False)]
    assert listed(first) == ["start", "test", *learners]
    assert {"doctor", "plan", "progress"} < set(learners) and not {"lock", "setup"} & set(learners)
    assert cli.main(["help", "all"]) == 0
    whole = capsys.readouterr().out
    assert listed(whole) == ["start", "test", *VERBS]
    for verb in VERBS:
        assert cli.load(verb).HELP in " ".join(whole.split())


def test_explaining_everything_imports_nothing_that_takes_long():
    """One process for all of them: the first to import torch is one too many."""
    program = (
        "import sys\nfrom labsupport import cli\ncli.main(['help', 'all'])\n"
        "for verb in cli.names():\n"
        "    try:\n        cli.main([verb, '--help'])\n    except SystemExit:\n        pass\n"
        "slow = {'torch', 'transformers', 'matplotlib', 'numpy', 'jsonschema', 'yaml'} & set(sys.modules)\n"
        "print(sorted(slow))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr


# ---------------------------------------------------------------- command lines that are wrong


def test_an_unknown_verb_is_one_line_with_the_valid_ones_the_nearest_first(capsys):
    assert cli.main(["doktor"]) == cli.main(["help", "doktor"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 2
    line = said.err.splitlines()[0]
    assert line.startswith("Unknown verb 'doktor'. There are: doctor, ")
    assert sorted(line.split(": ")[1].rstrip(".").split(", ")) == sorted(["start", "test", *VERBS])


@pytest.mark.parametrize("verb", ["start", "test"])
def test_start_and_test_are_lab_pys_own(verb, capsys):
    assert cli.main([verb]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and f"`python3 lab.py {verb}`" in said.err


@pytest.mark.parametrize("verb", VERBS)
def test_an_unknown_option_is_one_line_that_names_it(verb, capsys, monkeypatch):
    monkeypatch.setattr(cli.load(verb), "run", lambda asked: pytest.fail("it ran"))
    line = refused(capsys, verb, "--nonsense", "0")
    assert line.startswith(f"lab.py {verb}: ") and line.endswith(f"see `lab.py {verb} --help`\n")
    assert "--nonsense" in line or "required" in line  # argparse says first what is missing


def test_what_is_missing_is_named(capsys):
    assert "required: FILE" in refused(capsys, "validate")
    assert cli.main(["experiment"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and re.fullmatch(r"Which experiment\? There are: .*spectrum.*\n", said.err)


def test_a_line_break_in_a_value_does_not_break_the_line(capsys):
    assert "invalid choice: 'a\\nb'" in refused(capsys, "claims", "--verdict", "a\nb")
    assert "there is no option --a\\nb" in refused(capsys, "claims", "--a\nb")
    assert "unrecognized arguments: a\\tb" in refused(capsys, "claims", "a\tb")


def test_bad_input_is_one_line_and_status_2(monkeypatch, capsys):
    def fail(_):
        raise LabError("The file is odd: mend it.")

    monkeypatch.setattr("labsupport.commands.doctor.run", fail)
    assert cli.main(["doctor"]) == 2
    said = capsys.readouterr()
    assert said.err == "The file is odd: mend it.\n" and said.out == ""


def test_ctrl_c_is_no_traceback(monkeypatch, capsys):
    def stop(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("labsupport.commands.doctor.run", stop)
    assert cli.main(["doctor"]) == 130
    assert capsys.readouterr().err == "Stopped.\n"


# ---------------------------------------------------------------- the others


def test_validate_names_file_and_line_of_each_bad_file(tmp_path, capsys):
    lines = GOOD_FILE.read_text(encoding="utf-8").splitlines()[:3]
    broken = tmp_path / "broken.jsonl"
    broken.write_text("\n".join([*lines[:2], lines[2].replace('"urgency"', '"hurry"')]), encoding="utf-8")
    missing = tmp_path / "missing.jsonl"
    assert cli.main(["validate", str(broken), str(GOOD_FILE), str(missing)]) == 1
    first, second, third = capsys.readouterr().out.splitlines()
    assert f"{broken}, line 3: 'urgency' is a required property" in first
    assert "all good" in second
    assert str(missing) in third
    assert cli.main(["validate", str(GOOD_FILE)]) == 0


def test_validate_checks_a_file_as_its_folder_or_its_option_says(tmp_path, capsys):
    files = ["canary/questions.jsonl", "facts/facts.jsonl", "policy/test.jsonl", "tickets/train.jsonl"]
    files.append("general/passages.jsonl")
    assert cli.main(["validate", *(str(DATA / file) for file in files)]) == 0
    counts = [int(line.split(": ")[1].split()[0]) for line in capsys.readouterr().out.splitlines()]
    assert counts == [120, 3000, 120, 1200, 120]
    mine = tmp_path / "mine.jsonl"
    mine.write_bytes((DATA / "facts" / "facts.jsonl").read_bytes())
    assert cli.main(["validate", "--task", "facts", str(mine)]) == 0
    assert cli.main(["validate", str(mine)]) == 1  # read as tickets


@pytest.mark.parametrize(("problems", "status"), [([], 0), (["01_first_fine_tune.ipynb is old"], 1)])
def test_build_check_ends_with_1_if_a_notebook_is_not_its_masters(monkeypatch, capsys, problems, status):
    monkeypatch.setattr("labsupport.upkeep.notebook_checks.check", lambda: problems)
    assert cli.main(["build", "--check"]) == status
    assert capsys.readouterr().out == "\n".join(problems or ["notebooks match their masters"]) + "\n"


def test_build_hands_on_names_and_edition(monkeypatch, capsys, tmp_path):
    asked = []

    def build(names, execute):
        asked.append((names, execute))
        return [tmp_path / "01_first_fine_tune.ipynb"]

    monkeypatch.setattr("labsupport.upkeep.notebook_builder.build", build)
    assert cli.main(["build"]) == cli.main(["build", "01_first_fine_tune", "--student"]) == 0
    assert asked == [(None, True), (["01_first_fine_tune"], False)]
    assert capsys.readouterr().out == "01_first_fine_tune.ipynb\n" * 2


def test_build_text_hands_on_the_names_and_executes_nothing(monkeypatch, capsys, tmp_path):
    builder = "labsupport.upkeep.notebook_builder"
    monkeypatch.setattr(f"{builder}.build", lambda *_, **__: pytest.fail("executed"))
    monkeypatch.setattr(f"{builder}.rewrite_text", lambda names: [tmp_path / names[0]])
    assert cli.main(["build", "--text", "01_first_fine_tune"]) == 0
    assert capsys.readouterr().out == "01_first_fine_tune\n"


def test_contents_writes_the_learners_page(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("labsupport.upkeep.contents.WORK", tmp_path)
    assert cli.main(["contents"]) == 0
    assert "contents.ipynb" in capsys.readouterr().out
    assert json.loads((tmp_path / "contents.ipynb").read_text(encoding="utf-8"))["nbformat"] == 4


def test_experiments_are_listed_run_and_published_by_name(monkeypatch, capsys):
    monkeypatch.setattr("labsupport.evaluation.experiments.run", lambda name: f"ran {name}")
    monkeypatch.setattr("labsupport.evaluation.experiments.publish", lambda name: f"published {name}")
    assert cli.main(["experiment", "spectrum"]) == cli.main(["experiment", "spectrum", "--publish"]) == 0
    assert capsys.readouterr().out == "ran spectrum\npublished spectrum\n"
    assert cli.main(["experiment", "--list"]) == 0
    assert "spectrum" in capsys.readouterr().out.splitlines()


def test_bench_reports_what_it_measured(monkeypatch, capsys):
    row = {"explorer": "low_rank", "opens_ms": 30.0, "slowest_corner_ms": 60.0, "figure_ms": 20.0}
    steps = {"padded_seconds": 4.0, "shared_seconds": 1.0, "padded_tokens": 900, "shared_tokens": 300}
    looked = {"rows": 100, "plain_seconds": 0.1, "reading_seconds": 0.2, "all_seconds": 2.0}
    result = {"budget_ms": 150, "explorers": [row], "training": steps, "preflight": [looked]}
    monkeypatch.setattr("labsupport.upkeep.bench.measure", lambda: result)
    assert cli.main(["bench", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == result
    assert cli.main(["bench"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "low_rank 30 ms 60 ms 20 ms x 1.5 the figure" in text
    assert "900 tokens in 4.0 s padded, 300 in 1.0 s with a shared prompt: 0.25 of the time" in text
    assert "100 rows: 50 rows a second, x 20 of plain json.loads; reading alone x 2.0" in text
