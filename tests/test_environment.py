"""The pins, the lock, conda's file and lab.py agree; importing the package is light and goes one way."""

import ast
import contextlib
import functools
import html
import importlib.metadata
import importlib.util
import itertools
import json
import os
import re
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import compatible_tags, cpython_tags, mac_platforms
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from labsupport.core.files import ROOT
from labsupport.upkeep import doctor, lock
from labsupport.upkeep.lock import LEFT_OUT

LINUX = {"sys_platform": "linux", "os_name": "posix", "platform_system": "Linux"}
MAC = {"sys_platform": "darwin", "os_name": "posix", "platform_system": "Darwin"}
WINDOWS = {"sys_platform": "win32", "os_name": "nt", "platform_system": "Windows"}
# What lab.py supports: the markers there, and the tags that pip would accept wheels for.
# glibc 2.31, as the README says: llguidance has no wheel for an older one.
MANYLINUX = [*(f"manylinux_2_{minor}" for minor in range(31, 4, -1)), "manylinux2014", "manylinux1"]
PLATFORMS = {
    "linux-x86_64": (
        {**LINUX, "platform_machine": "x86_64"},
        [f"{tag}_x86_64" for tag in MANYLINUX],
    ),
    "linux-aarch64": (
        {**LINUX, "platform_machine": "aarch64"},
        [f"{tag}_aarch64" for tag in MANYLINUX],
    ),
    "macos-arm64": ({**MAC, "platform_machine": "arm64"}, list(mac_platforms((14, 0), "arm64"))),
    "windows-amd64": ({**WINDOWS, "platform_machine": "AMD64"}, ["win_amd64"]),
}
CPYTHON = {"implementation_name": "cpython", "platform_python_implementation": "CPython"}
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
ON_EVERYTHING = [(python, platform) for python in PYTHONS for platform in PLATFORMS]


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def markers(python: str, platform: str) -> dict:
    """What a requirement's marker sees on a platform, under a release such as 3.12.4."""
    minor = ".".join(python.split(".")[:2])
    release = {"python_version": minor, "python_full_version": python}
    return {**default_environment(), **CPYTHON, **release, **PLATFORMS[platform][0]}


def direct_pins(here: dict | None = None) -> dict[str, str]:
    """Name to version of pyproject.toml's dependencies for a platform; every one is an exact pin."""
    wanted = [Requirement(pin) for pin in project()["dependencies"]]
    assert [str(entry) for entry in wanted if not re.fullmatch(r"==[^*,]+", str(entry.specifier))] == []
    return {
        entry.name: str(entry.specifier).removeprefix("==")
        for entry in wanted
        if not entry.marker or entry.marker.evaluate(here or default_environment())
    }


@functools.cache
def locked() -> list[tuple[Requirement, str]]:
    """Every entry of requirements.lock, parsed, with its text."""
    blocks = re.split(r"\n(?=[A-Za-z0-9])", (ROOT / "requirements.lock").read_text().strip())
    return [(Requirement(block.split("\\")[0].strip()), block) for block in blocks]


def selected(here: dict) -> list[tuple[Requirement, str]]:
    """The lock's entries for a platform's markers."""
    return [(entry, text) for entry, text in locked() if not entry.marker or entry.marker.evaluate(here)]


# ---------------------------------------------------------------- the pins agree


@pytest.fixture(scope="module")
def lab():
    """The bootstrap as a module."""
    spec = importlib.util.spec_from_file_location("lab", ROOT / "lab.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_lock_conda_file_and_bootstrap_have_the_direct_pins(lab):
    torch = direct_pins()["torch"]
    assert torch == lab.TORCH
    lines = {str(entry) for entry, _ in locked()}
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"][-1]["pip"]
    assert {str(Requirement(pin)) for pin in conda} == lines | {f"torch=={torch}"}
    assert len(conda) == len(lines) + 1


def test_the_lock_leaves_torch_and_cuda_to_the_bootstrap():
    names = [entry.name for entry, _ in locked()]
    assert [name for name in names if re.match(r"torch$|nvidia|cuda|triton", name)] == []


def test_every_locked_package_is_pinned_and_hashed():
    for entry, text in locked():
        assert re.fullmatch(r"==[^*,]+", str(entry.specifier)), entry
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", text), entry


def test_the_installed_packages_are_the_locked_ones():
    (finding,) = doctor.installed_packages()
    assert finding.ok, finding.seen


def test_a_missing_or_different_package_is_reported(monkeypatch):
    monkeypatch.setattr(doctor, "locked_versions", lambda: {"peft": "0.0.1", "not-there": "1.0"})
    (finding,) = doctor.installed_packages()
    assert not finding.ok and finding.fix
    assert f"peft {direct_pins()['peft']} instead of 0.0.1" in finding.seen
    assert "not-there 1.0 is missing" in finding.seen


# ---------------------------------------------------------------- the lock on other platforms


def releases(python: str) -> list[str]:
    """The releases of 3.12, say, that pyproject.toml admits."""
    admitted = SpecifierSet(project()["requires-python"])
    return [release for micro in range(30) if (release := f"{python}.{micro}") in admitted]


@pytest.mark.parametrize("python, platform", ON_EVERYTHING)
def test_the_lock_has_one_version_of_everything(python, platform):
    for release in releases(python):
        here = markers(release, platform)
        versions = {entry.name: str(entry.specifier)[2:] for entry, _ in selected(here)}
        assert len(versions) == len(selected(here))
        pins = direct_pins(here)
        assert {name: versions[name] for name in pins if name != "torch"} == {
            name: version for name, version in pins.items() if name != "torch"
        }
        assert ("pywinpty" in versions) == platform.startswith("windows")


@pytest.mark.parametrize("python, platform", ON_EVERYTHING)
def test_the_lock_has_what_torch_needs(python, platform):
    """lab.py installs torch without dependencies, after the lock."""
    here = markers(f"{python}.5", platform)
    versions = {canonicalize_name(entry.name): str(entry.specifier)[2:] for entry, _ in selected(here)}
    needed, waiting = set(), ["torch"]
    while waiting:
        for text in importlib.metadata.requires(waiting.pop()) or []:
            entry = Requirement(text)
            name = canonicalize_name(entry.name)
            if LEFT_OUT.match(name) or (entry.marker and not entry.marker.evaluate({**here, "extra": ""})):
                continue
            assert versions[name] in entry.specifier, text
            waiting += {name} - needed
            needed.add(name)
    # Named here too: another build of torch may be installed on the machine that tests.
    known = "filelock typing-extensions sympy networkx jinja2 fsspec setuptools mpmath markupsafe"
    assert needed | set(known.split()) <= set(versions)


def test_lab_py_runs_on_the_pythons_that_the_project_admits_and_on_no_others(lab):
    admitted = SpecifierSet(project()["requires-python"])
    for version in itertools.product((2, 3, 4), range(20), range(20)):
        assert (".".join(map(str, version)) in admitted) == (not lab.python_problem(version)), version
    assert all(releases(python) for python in PYTHONS)
    assert not releases("3.10") and not releases("3.15")


def pips_index() -> str:
    """The address of the registry that pip would ask; its help names it, whatever it was configured with."""
    command = [sys.executable, "-m", "pip", "install", "--help"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return re.search(r"Package\s+Index\s+\(default\s+(\S+?)/?\)", said)[1]


class Wheel(NamedTuple):
    """A file of the registry: its version, the tags it fits and the Pythons that may install it."""

    version: str
    tags: frozenset
    pythons: SpecifierSet


@pytest.fixture(scope="module")
def registry() -> dict[str, dict[str, Wheel]]:
    """For each package of the lock, and torch, the wheels that the registry has, by SHA-256."""
    index = pips_index()
    names = {canonicalize_name(entry.name) for entry, _ in locked()} | {"torch"}
    with ThreadPoolExecutor(8) as pool:
        pages = [f"{index}/{name}/" for name in names]
        return dict(zip(names, pool.map(wheels, pages), strict=True))


def wheels(page: str) -> dict[str, Wheel]:
    """The wheels on a package's page (PEP 503), or a skipped test if the registry does not answer."""
    try:
        with urllib.request.urlopen(page, timeout=60) as answer:
            text = answer.read().decode()
    except urllib.error.HTTPError as error:
        if error.code != 429 and error.code < 500:  # too many requests, or out of order
            raise
        pytest.skip("the package registry does not answer")
    except OSError:
        pytest.skip("the package registry does not answer")
    found = {}
    for link in re.findall(r"<a [^>]*\.whl#sha256=[^>]*>", text):
        file, sha256 = re.search(r'/([^/"#]+\.whl)#sha256=([0-9a-f]{64})', link).groups()
        pythons = re.search(r'data-requires-python="([^"]*)"', link)
        with contextlib.suppress(InvalidWheelFilename, InvalidSpecifier):  # of the years before the standards
            _, version, _, tags = parse_wheel_filename(file)
            allowed = SpecifierSet(html.unescape(pythons[1]) if pythons else "")
            found[sha256] = Wheel(str(version), tags, allowed)
    return found


@pytest.mark.network
@pytest.mark.parametrize("python, platform", ON_EVERYTHING)
def test_the_registry_has_a_wheel_of_everything(python, platform, registry):
    """What `pip install --only-binary :all:` would find, for every release of that Python."""
    version, tags = tuple(map(int, python.split("."))), PLATFORMS[platform][1]
    interpreter = f"cp{version[0]}{version[1]}"
    fit = {*cpython_tags(version, platforms=tags), *compatible_tags(version, interpreter, tags)}

    def found(name: str, fits, release: str) -> bool:
        """Whether one of the package's wheels will do, the SHA-256 or version of which `fits`."""
        return any(
            fits(sha256, wheel) and fit & wheel.tags and release in wheel.pythons
            for sha256, wheel in registry[canonicalize_name(name)].items()
        )

    torch = direct_pins()["torch"]
    missing = set()
    for release in releases(python):
        for entry, text in selected(markers(release, platform)):
            hashes = set(re.findall(r"--hash=sha256:([0-9a-f]{64})", text))
            if not found(entry.name, lambda sha256, _, hashes=hashes: sha256 in hashes, release):
                missing.add(f"{entry} on {release}")
        if not found("torch", lambda _, wheel: wheel.version == torch, release):
            missing.add(f"torch {torch} on {release}")
    assert not missing


# ---------------------------------------------------------------- lab.py lock


def test_the_lock_keeps_the_versions_that_it_has(tmp_path, monkeypatch):
    """A new dependency must not move a hundred others; a fake uv says what it was given to go by."""
    uv = tmp_path / "uv"
    uv.write_text(
        "#!/bin/sh\n"
        'while [ "$1" != --output-file ]; do shift; done\n'
        'cat "$2" || echo "newest==9"\n'
        'printf "numpy==1.0\\nnew==3\\ntorch==2\\n" >> "$2"\n'
    )
    uv.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(lock, "LOCK", tmp_path / "requirements.lock")
    assert lock.without_torch(lock.resolve()) == "numpy==1.0\nnew==3\n"
    lock.LOCK.write_text("old==1\n")
    assert lock.without_torch(lock.resolve()) == "old==1\nnumpy==1.0\nnew==3\n"
    assert lock.LOCK.read_text() == "old==1\n"  # written in one step, later


# ---------------------------------------------------------------- what the code uses is declared


def imported(path: Path) -> set[str]:
    """The packages and modules at the top of every absolute import of a file."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
    return {name.partition(".")[0] for name in names}


def test_every_package_that_is_imported_is_declared():
    """What only another package brings vanishes, or changes its version, when that package does.

    What is not installed fails by itself, unless a test writes that module before it imports it.
    """
    sources = [*(ROOT / "labsupport").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    sources += [*(ROOT / "solutions").glob("*.py"), ROOT / "lab.py"]
    assert len(sources) > 80
    tests = [path.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("*.py")]
    ours = {"lab", "labsupport"} | {path.stem for path in tests} | {path.parts[0] for path in tests}
    declared = {canonicalize_name(Requirement(pin).name) for pin in project()["dependencies"]}
    distributions = importlib.metadata.packages_distributions()
    assert {"numpy", "yaml", "IPython"} <= distributions.keys()
    undeclared = {
        f"{name} in {path.relative_to(ROOT)}"
        for path in sources
        for name in imported(path) & distributions.keys() - ours - sys.stdlib_module_names
        if not declared & {canonicalize_name(dist) for dist in distributions[name]}
    }
    assert not undeclared


def test_no_registry_is_named_but_pytorchs_and_that_once(lab):
    """Which registry is asked is pip's configuration; a name written here would go round it."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("no git checkout")
    index = lab.TORCH_INDEX.partition("://")[2]
    names = "|".join(map(re.escape, (index.partition("/")[0], "pypi" + ".", "python" + "hosted.")))
    found = []
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.is_file() and path.suffix not in {".png", ".safetensors"}:
            found += [name for _ in re.findall(names, path.read_text(encoding="utf-8", errors="replace"))]
    assert found == ["lab.py"]


# ---------------------------------------------------------------- what set-up measures


def test_lab_py_takes_what_set_up_writes_for_finished(lab, tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "STATE", tmp_path)
    monkeypatch.setattr(lab, "STATE", tmp_path)
    monkeypatch.setattr(doctor.base_model, "bundled_folder", lambda: tmp_path / "model")
    monkeypatch.setattr(doctor, "worth_timing", lambda threads: ["float32"])
    monkeypatch.setattr(doctor, "tokens_per_second", lambda *_: 100.0)
    assert not lab.measured()
    doctor.set_up()
    assert lab.measured()
    settings = json.loads((tmp_path / "ready.json").read_text())
    for missing in settings:
        (tmp_path / "ready.json").write_text(json.dumps({k: v for k, v in settings.items() if k != missing}))
        assert not lab.measured()


# ---------------------------------------------------------------- imports


def test_importing_the_light_modules_leaves_torch_alone():
    modules = (
        "cli core.files core.profiles core.upstream tasks.tickets models.base_model teaching.predictions "
        "teaching.claims checking.exercise upkeep.doctor"
    )
    imports = "\n".join(f"import labsupport.{module}" for module in modules.split())
    program = (
        f"import sys, labsupport\n{imports}\nprint(sorted({{'torch', 'transformers'}} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_modules_import_only_downwards():
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as lint; lint()"]
    done = subprocess.run([*command, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_readmes_minutes_are_doctors():
    """The README prints what doctor rescales."""
    rows = re.findall(r"^\| ([^|]+?) \| ([\d.]+) \|", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    assert {name.strip("`"): float(minutes) for name, minutes in rows} == doctor.MINUTES
