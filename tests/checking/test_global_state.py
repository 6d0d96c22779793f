"""A check leaves no trace: every call starts from the same state, and the caller's is put back."""

import importlib
import os
import random
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from labsupport.checking.exercise import Exercise


def doing(change):
    """An exercise whose right answer is 1, and a right answer that also calls `change`."""

    def answer():
        change()
        return 1

    return Exercise("q", lambda: 1, [(), ()]), answer


def drawn():
    return [random.random(), float(np.random.rand()), float(np.random.randn()), torch.rand(()).item()]


def reseeded():
    random.seed(7)
    np.random.seed(7)
    torch.manual_seed(7)
    drawn()


def raising():
    reseeded()
    raise ValueError("after drawing")


# ---------------------------------------------------------------- generators


@pytest.mark.parametrize("change", [drawn, reseeded, raising, lambda: sys.exit(1)])
def test_the_callers_generators_go_on_as_if_there_had_been_no_check(change):
    reseeded()
    expected = drawn() + drawn()
    reseeded()
    first = drawn()
    exercise, answer = doing(change)
    exercise.check(answer)
    assert first + drawn() == expected


def test_an_interrupted_check_also_puts_everything_back():
    def interrupted():
        reseeded()
        torch.set_grad_enabled(False)
        raise KeyboardInterrupt

    exercise, answer = doing(interrupted)
    reseeded()
    drawn()
    expected = drawn()
    reseeded()
    drawn()
    with pytest.raises(KeyboardInterrupt):
        exercise.check(answer)
    assert drawn() == expected and torch.is_grad_enabled()


def test_making_the_cases_may_draw_too():
    def cases():
        torch.manual_seed(0)
        return [(random.random(), torch.rand(3))]

    reseeded()
    expected = drawn()
    reseeded()
    assert Exercise("q", lambda x, y: x, cases).check(lambda x, y: x).status == "correct"
    assert drawn() == expected


def test_everyone_draws_the_same_random_numbers():
    exercise = Exercise("q", drawn, [(), ()])
    assert exercise.check(lambda: drawn()).status == "correct"
    assert exercise.check(lambda: drawn() and drawn()).status == "wrong"


@pytest.mark.parametrize("which", range(4))
def test_a_check_says_the_same_wherever_the_callers_generators_stand(which):
    exercise = Exercise("q", lambda: drawn()[which], [()])
    messages = set()
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        messages.add(exercise.check(lambda: 9.0).message)
    assert len(messages) == 1


def test_drawing_in_one_case_changes_nothing_in_the_next():
    def drawing_more(times):
        result = drawn()
        for _ in range(times):
            drawn()
        return result

    exercise = Exercise("q", lambda times: drawn(), [(0,), (3,), (1,)])
    assert exercise.check(drawing_more).status == "correct"


# ---------------------------------------------------------------- settings


CHANGES = {
    "grad mode": (lambda: torch.set_grad_enabled(False), torch.is_grad_enabled),
    "default dtype": (lambda: torch.set_default_dtype(torch.float64), torch.get_default_dtype),
    "default device": (lambda: torch.set_default_device("meta"), torch.get_default_device),
    "threads": (lambda: torch.set_num_threads(torch.get_num_threads() + 1), torch.get_num_threads),
    "determinism": (
        lambda: torch.use_deterministic_algorithms(True, warn_only=True),
        lambda: (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
    ),
    "numpy's errors": (lambda: np.seterr(all="raise"), np.geterr),
    "warnings": (lambda: warnings.simplefilter("error"), lambda: list(warnings.filters)),
    "folder": (lambda: os.chdir("/"), Path.cwd),
    "a changed variable": (
        lambda: os.environ.update(HOME="/nowhere", PATH=""),
        lambda: (os.environ["HOME"], os.environ["PATH"]),
    ),
    "a removed variable": (lambda: os.environ.pop("PATH", None), lambda: os.environ.get("PATH")),
}


@pytest.fixture
def settings():
    """Puts back whatever a test (or the code under test) left changed, so that no other test sees it."""
    before = {name: read() for name, (_, read) in CHANGES.items()}
    variables = dict(os.environ)
    yield before
    torch.set_grad_enabled(True)
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    torch.set_num_threads(before["threads"])
    torch.use_deterministic_algorithms(False)
    np.seterr(**before["numpy's errors"])
    warnings.filters[:] = before["warnings"]
    os.chdir(before["folder"])
    os.environ.update(variables)


@pytest.mark.parametrize("fails", [False, True], ids=["returns", "raises"])
@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_setting_does_not_survive(settings, name, fails):
    change, read = CHANGES[name]

    def changing():
        change()
        assert read() != settings[name]  # it does change something
        if fails:
            raise ValueError

    exercise, answer = doing(changing)
    assert exercise.check(answer).status == ("wrong" if fails else "correct")
    assert read() == settings[name]


def test_what_the_caller_has_set_comes_back_also_if_it_is_not_how_torch_begins(settings):
    def as_torch_begins():
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
        torch.use_deterministic_algorithms(False)

    exercise, answer = doing(as_torch_begins)
    for warn_only in (False, True):
        torch.set_default_device("meta")
        torch.set_default_dtype(torch.float64)
        torch.use_deterministic_algorithms(True, warn_only=warn_only)
        assert exercise.check(answer).status == "correct"
        assert torch.get_default_device().type == "meta" and torch.get_default_dtype() == torch.float64
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled() == warn_only


def test_a_change_in_one_case_changes_nothing_in_the_next(settings):
    def once(x):
        result = (torch.ones(2) * x).dtype == torch.float32 and torch.is_grad_enabled()
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        return result

    assert Exercise("q", lambda x: True, [(1,), (2,)]).check(once).status == "correct"


def test_the_next_right_answer_passes_after_a_careless_one(settings):
    def careless(w):
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        return w

    def gradient(w):
        w = w.clone().requires_grad_()
        return torch.autograd.grad((w**2).sum(), w)[0]

    exercise = Exercise("q", lambda w: 2 * w, [(torch.ones(3),)])
    assert exercise.check(careless).status == "wrong"
    assert exercise.check(gradient).status == "correct"


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize(
    "surroundings",
    [torch.no_grad, torch.inference_mode, lambda: np.errstate(all="raise"), lambda: torch.device("meta")],
)
def test_a_verdict_does_not_depend_on_the_callers_settings(settings, surroundings):
    def gradient(w):
        w = w.clone().requires_grad_()
        return torch.autograd.grad((w**2).sum() + bool(np.array([1e300]) * 1e300 > 0), w)[0]

    exercise = Exercise("q", lambda w: 2 * w, [(torch.ones(3),)])
    torch.set_default_dtype(torch.bfloat16)
    with surroundings():
        assert exercise.check(gradient).status == "correct"
    assert torch.get_default_dtype() == torch.bfloat16 and torch.is_grad_enabled()


def test_new_tensors_are_float32_whatever_the_caller_has_set(settings):
    torch.set_default_dtype(torch.float64)
    exercise = Exercise("q", lambda: str(torch.ones(1).dtype), [()])
    assert exercise.check(lambda: "torch.float32").status == "correct"


def test_a_library_imported_by_the_function_keeps_the_variables_and_filters_it_adds(
    settings, tmp_path, monkeypatch
):
    """They are added once, when it is imported: taken away, they would be missing for good."""
    (tmp_path / "addsomething.py").write_text(
        "import os, warnings\nos.environ['ADDED'] = '1'\nwarnings.filterwarnings('ignore', 'added')\n"
    )

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(os.environ, "ADDED", "not yet")
    monkeypatch.delitem(os.environ, "ADDED")
    exercise, answer = doing(lambda: importlib.import_module("addsomething"))
    try:
        assert exercise.check(answer).status == "correct"
        assert os.environ["ADDED"] == "1" and len(warnings.filters) == len(settings["warnings"]) + 1
    finally:
        sys.modules.pop("addsomething", None)


def test_a_folder_that_is_gone_does_not_stop_a_check(settings, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    assert Exercise("q", abs, [(-1,)]).check(lambda x: -x).status == "correct"
    with pytest.raises(FileNotFoundError):  # still there, and not in another folder
        Path.cwd()


def test_a_folder_that_goes_during_a_check_does_not_stop_it(settings, tmp_path):
    going = tmp_path / "going"
    going.mkdir()
    os.chdir(going)

    def answer(x):
        os.chdir(tmp_path)
        going.rmdir()
        return x

    assert Exercise("q", lambda x: x, [(1,)]).check(answer).status == "correct"


# ---------------------------------------------------------------- torch comes during a call


def in_a_new_interpreter(code):
    head = "import sys, random\nfrom labsupport.checking.exercise import Exercise\n"
    subprocess.run([sys.executable, "-c", head + textwrap.dedent(code)], check=True)


def test_a_check_without_tensors_imports_no_torch():
    in_a_new_interpreter("""
        import labsupport.teaching.predictions, labsupport.teaching.claims
        assert Exercise('q', abs, [(-1.5,)]).check(lambda x: -x).status == 'correct'
        assert 'torch' not in sys.modules
    """)


def test_a_torch_that_came_with_a_check_is_as_after_an_import():
    """Its generator too, which torch seeds with an unknown number; seed 5 or 0 would be another."""
    in_a_new_interpreter("""
        def answer(x):
            import torch
            torch.manual_seed(5)
            torch.set_default_dtype(torch.float64)
            torch.set_default_device('meta')
            torch.set_grad_enabled(False)
            torch.use_deterministic_algorithms(True)
            return x

        assert Exercise('q', lambda x: x, [(1.0,), (2.0,)]).check(answer).status == 'correct'
        import torch
        assert torch.get_default_dtype() == torch.float32 and torch.is_grad_enabled()
        assert torch.get_default_device().type == 'cpu'
        assert not torch.are_deterministic_algorithms_enabled()
        drawn = torch.rand(3)
        for seed in (0, 5):
            assert not torch.equal(drawn, torch.rand(3, generator=torch.Generator().manual_seed(seed)))
    """)


def test_a_reference_that_imports_torch_draws_what_everyone_draws():
    in_a_new_interpreter("""
        def drawing():
            import torch
            return torch.rand(3).tolist()

        assert Exercise('q', drawing, [()]).check(lambda: drawing()).status == 'correct'
    """)
