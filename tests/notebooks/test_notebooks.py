"""Static tests of the notebooks, and what running them must leave behind."""

import ast
import inspect
import json
import re

import fresh_process
import nbformat
import pytest

from labsupport.core.files import ROOT
from labsupport.upkeep import notebook_checks

SOLUTIONS = sorted((ROOT / "solutions").glob("[0-9][0-9]_*.ipynb"))
STUDENTS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
MASTERS = sorted((ROOT / "solutions").glob("*.py"))


def code_cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_every_master_has_both_editions():
    stems = [path.stem for path in MASTERS]
    assert stems and stems == [p.stem for p in SOLUTIONS] == [p.stem for p in STUDENTS]


def test_built_notebooks_match_their_masters():
    assert notebook_checks.check() == []


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda p: p.stem)
def test_solution_is_complete_small_and_without_errors(path):
    cells = code_cells(path)
    # nbval passes silently over cells without an execution count.
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [o for cell in cells for o in cell.outputs if o.output_type == "error"]
    assert path.stat().st_size < 1_000_000


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda p: p.stem)
def test_every_image_has_alt_text_and_no_warning_is_shown(path):
    text = json.dumps([cell.outputs for cell in code_cells(path)])
    images = re.findall(r"<img[^>]*", text)
    assert images
    assert all(re.search(r'alt=\\"[^"\\]{30,}', image) for image in images)
    assert 'image/png"' not in text  # an image without alt text
    assert not re.search(r"Warning|Traceback", text)


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda p: p.stem)
def test_no_path_of_a_machine_in_outputs(path):
    text = json.dumps([cell.outputs for cell in code_cells(path)])
    assert not re.search(r"(?<![\w.])/(home|root|tmp|Users|work|usr)/", text)


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda p: p.stem)
def test_solutions_pass_their_checks(path):
    checks = [c for c in code_cells(path) if ".check(" in c.source]
    assert len(checks) >= 3
    for cell in checks:
        (shown,) = [o.data["text/plain"] for o in cell.outputs if o.output_type == "execute_result"]
        assert ": correct. " in shown, cell.source


@pytest.mark.parametrize("path", STUDENTS, ids=lambda p: p.stem)
def test_student_stubs_count_as_not_attempted(path):
    # Run the stub cells alone, with the imports they need, as a learner who has done nothing.
    sources = [c.source for c in code_cells(path) if ".check(" in c.source]
    assert sources
    imports = (
        "from collections.abc import Callable\nfrom pathlib import Path\nimport torch\nfrom torch import nn\n"
        f"from labsupport.notebooks.nb{path.stem} import exercises\n"
    )
    for source in sources:
        assert "raise NotImplementedError" in source
        body, check = source.rsplit("\n", 1)
        namespace = {}
        exec(imports + body, namespace)  # noqa: S102 - our own notebook
        assert eval(check, namespace).status == "not attempted"


@pytest.mark.parametrize("path", MASTERS, ids=lambda p: p.stem)
def test_current_api_only(path):
    """Keywords of the libraries' classes exist, also in branches that a CPU never runs."""
    import peft
    import transformers
    import trl

    names = {n: getattr(m, n) for m in (peft, transformers, trl) for n in CHECKED if hasattr(m, n)}
    text = path.read_text()
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    checked = 0
    for call in calls:
        target = names.get(getattr(call.func, "id", None))
        if target is None:
            continue
        parameters = inspect.signature(target).parameters
        for keyword in call.keywords:
            assert keyword.arg is None or keyword.arg in parameters, (call.func.id, keyword.arg)
            assert keyword.arg not in DEPRECATED
            checked += 1
    assert checked or not any(f"{name}(" in text for name in CHECKED)


CHECKED = ("LoraConfig", "BitsAndBytesConfig", "SFTConfig", "SFTTrainer", "DPOConfig", "DPOTrainer")
DEPRECATED = {"gradient_checkpointing", "warmup_ratio", "torch_dtype", "tokenizer"}


@pytest.mark.parametrize("path", MASTERS, ids=lambda p: p.stem)
def test_cells_need_no_network(path):
    assert not re.search(
        r"https?://|\b(urllib|load_dataset)\b|\brequests\.|import requests", path.read_text()
    )


@pytest.mark.slow
def test_notebook_01_and_the_shared_recipe_are_the_same_run(tmp_path):
    """The student edition, run up to its trainer, would train exactly what recipe.trainer() trains."""
    sources = [cell.source for cell in code_cells(ROOT / "notebooks" / "01_first_fine_tune.ipynb")]
    until = next(i for i, source in enumerate(sources) if "prefixes.share(trainer)" in source)
    program = (
        # Replies of the untuned model change nothing that is trained, and take a while.
        "from labsupport.evaluation import scoring\nscoring.generate = lambda *_: []\n"
        + "\n".join(sources[: until + 1])
        + "\nfrom labsupport.training import fingerprint, recipe\n"
        "print(fingerprint.fingerprint(trainer) == fingerprint.fingerprint(recipe.trainer()))\n"
    )
    printed = fresh_process.run(program, LAB_PROFILE="smoke", LAB_RUNS=str(tmp_path), LAB_THREADS="1")
    assert printed.splitlines()[-1] == "True"


def test_notebook_01_makes_the_adapters_of_each_of_its_trainers_float32_on_4_bits():
    """Else a T4 stops at the first step: float16's gradient scaler refuses TRL's bfloat16."""
    source = (ROOT / "solutions" / "01_first_fine_tune.py").read_text(encoding="utf-8")
    trainers = re.findall(r"^(\w+) = SFTTrainer\(", source, flags=re.MULTILINE)
    cast = re.findall(
        r"^if profile.quantize:\n    recipe.adapters_in_float32\((\w+).model\)", source, flags=re.MULTILINE
    )
    assert trainers and cast == trainers
