"""Notebooks that a learner copied before the package had rooms (tests/old_layout/) go on as they are."""

import ast
import dataclasses
import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import fresh_process
import pytest

import labsupport
from labsupport import old_names

NOTEBOOKS = sorted((Path(__file__).parent / "old_layout").glob("*.py"))


def uses(path: Path) -> set[tuple[str, str]]:
    """(module, name) of everything that a notebook of then takes from the package, its hints included."""
    code = re.sub(r"^# (?=exercises\.)", "", path.read_text(), flags=re.MULTILINE)
    tree = ast.parse(code)
    imports = [
        (alias.asname or alias.name, node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module.startswith("labsupport")
        for alias in node.names
    ]
    modules = {local: f"{module}.{name}" for local, module, name in imports}
    found = {(module, name) for _, module, name in imports}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            found.add((modules[node.value.id], node.attr))
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_name_of_then_is_found(path):
    found = uses(path)
    assert len(found) > 20
    for module, name in sorted(found):
        program = f"from {module} import {name}"
        try:
            exec(program, {})
        except ImportError:  # an attribute of what is itself imported, such as a dict's `items`
            package, _, inner = module.rpartition(".")
            assert hasattr(getattr(importlib.import_module(package), inner), name), program


@pytest.mark.parametrize(
    ("folder", "explorer"),
    [
        ("nb00_start_here", "decision"),
        ("nb02_lora_math", "low_rank"),
        ("nb03_counting_parameters", "parameter_calculator"),
        ("nb04_nf4_quantization", "quantiser"),
    ],
)
def test_an_explorer_is_found_where_it_was_in_a_flat_folder_and_in_its_notebooks(folder, explorer):
    now = importlib.import_module(f"labsupport.explorers.{explorer}_explorer")
    for program in (
        f"from labsupport.explorers import {explorer} as found",
        f"from labsupport.notebooks.{folder} import {explorer}_explorer as found",
        f"import labsupport.notebooks.{folder}.{explorer}_explorer as found",
    ):
        names = {}
        exec(program, names)
        assert names["found"].explore is now.explore, program


@pytest.mark.parametrize(
    ("then", "now", "name"),
    [
        ("memory.setup", "setups.setup", "Setup"),
        ("memory.planning", "planning.planner", "plan"),
        ("sizes.model_configs", "configs.model_configs", "find"),
        ("notebooks.nb02_lora_math.spectrum_experiment", "experiments.spectrum_experiment", "RANKS"),
        ("notebooks.nb05_memory_and_cost.cost_figures", "cost.figures", "over_tokens"),
        ("notebooks.nb05_memory_and_cost.figures", "planning.figures", "bar"),
        ("notebooks.nb05_memory_and_cost.napkin", "planning.napkin", "on_paper"),
        ("notebooks.nb05_memory_and_cost.step", "memory.watching", "kept_by_block"),
    ],
)
def test_a_module_that_went_to_another_room_is_found_where_it_was(then, now, name):
    room, _, module = then.rpartition(".")
    for program in (
        f"from labsupport.{then} import {name} as found",
        f"from labsupport.{room} import {module} as there; found = there.{name}",
        f"import labsupport.{then} as there; found = there.{name}",
    ):
        names = {}
        exec(program, names)
        assert names["found"] is getattr(importlib.import_module(f"labsupport.{now}"), name), program


def test_steps_are_traced_and_measured_by_the_names_of_then():
    from labsupport.configs import model_configs
    from labsupport.memory import watching
    from labsupport.notebooks.nb05_memory_and_cost import step
    from labsupport.planning import footprint
    from labsupport.setups.setup import Setup

    config = model_configs.find("smollm2-135m") | {"num_hidden_layers": 1, "vocab_size": 4096}
    run = Setup(config, batch=1, length=16, dtype="float32", attention="eager", trainer="plain")
    once, twice = step.traced_here(run), step.traced_here(dataclasses.replace(run, accumulation=2))
    assert twice > 1.005 * once
    assert step.real_peak(run) == pytest.approx(once, rel=1e-3) == watching.real_peak(run)
    assert watching.real_peak(run, 2) == pytest.approx(twice, rel=1e-3)
    assert step.traced is footprint.stream_of


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_half_done_notebook_of_then_runs_to_its_end(path, tmp_path):
    code = "from IPython.display import display\n" + path.read_text() + "\nprint('to the end')\n"
    printed = fresh_process.run(
        code,
        LAB_PROFILE="smoke",
        LAB_STRICT="0",
        LAB_RUNS=str(tmp_path),
        LAB_THREADS="1",
        LAB_PROGRESS=str(tmp_path / "p.json"),
    )
    assert printed.endswith("to the end")


def test_what_never_was_is_still_an_error():
    for program in ("import labsupport.nonsense", "from labsupport.memory import nonsense"):
        with pytest.raises(ImportError):
            exec(program, {})
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        importlib.import_module("labsupport.baselines").nonsense  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        importlib.import_module("labsupport.chat").nonsense  # noqa: B018


def test_no_module_of_now_is_hidden():
    package = Path(labsupport.__file__).parent
    for name in old_names.NAMES:
        path = package / name.replace(".", "/")
        assert not path.with_suffix(".py").exists() and not (path / "__init__.py").exists(), name


def test_a_left_over_folder_of_compiled_files_is_no_package(tmp_path):
    clone = tmp_path / "clone"
    shutil.copytree(Path(labsupport.__file__).parent, clone / "labsupport")
    (clone / "labsupport" / "checkpoints" / "__pycache__").mkdir(parents=True, exist_ok=True)
    program = (
        "import labsupport; from labsupport import checkpoints; print(labsupport.__file__, checkpoints.ask)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=clone, capture_output=True, text=True)
    assert str(clone) in done.stdout and "function ask" in done.stdout, done.stderr


def test_old_names_cost_nothing_until_they_are_used():
    program = (
        "import sys, labsupport, labsupport.memory, labsupport.evaluation, labsupport.training\n"
        "from labsupport.setups.setup import Setup\n"
        "assert not {'torch', 'numpy', 'transformers'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
