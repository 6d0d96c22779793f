"""The pins, the lock, conda's file and lab.py agree; importing the package is light and goes one way."""

import contextlib
import importlib.util
import re
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.tags import compatible_tags, cpython_tags, mac_platforms
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from labsupport import doctor
from labsupport.files import ROOT

LINUX = {"sys_platform": "linux", "os_name": "posix", "platform_system": "Linux"}
MAC = {"sys_platform": "darwin", "os_name": "posix", "platform_system": "Darwin"}
WINDOWS = {"sys_platform": "win32", "os_name": "nt", "platform_system": "Windows"}
# What lab.py supports: the markers there, and the tags that pip would accept wheels for.
# glibc 2.31, as the README says: llguidance has no wheel for an older one.
MANYLINUX = (
    "manylinux_2_31",
    "manylinux_2_28",
    "manylinux_2_24",
    "manylinux_2_17",
    "manylinux2014",
    "manylinux1",
)
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
PYTHON = {
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
    "python_version": "3.11",
    "python_full_version": "3.11.9",
}


def direct_pins() -> dict[str, str]:
    """Name to version of pyproject.toml's dependencies; every one is an exact pin."""
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    return dict(pin.split("==") for pin in dependencies)


def locked() -> list[tuple[Requirement, str]]:
    """Every entry of requirements.lock, parsed, with its text."""
    blocks = re.split(r"\n(?=[A-Za-z0-9])", (ROOT / "requirements.lock").read_text().strip())
    return [(Requirement(block.split("\\")[0].strip()), block) for block in blocks]


def selected(markers: dict) -> list[tuple[Requirement, str]]:
    """The lock's entries for a platform."""
    here = {**default_environment(), **PYTHON, **markers}
    return [(entry, text) for entry, text in locked() if not entry.marker or entry.marker.evaluate(here)]


# ---------------------------------------------------------------- the pins agree


def test_lock_conda_file_and_bootstrap_have_the_direct_pins():
    pins = direct_pins()
    torch = pins.pop("torch")
    spec = importlib.util.spec_from_file_location("lab", ROOT / "lab.py")
    lab = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(lab)
    assert torch == lab.TORCH

    lines = {str(entry) for entry, _ in locked()}
    assert [name for name, version in pins.items() if f"{name}=={version}" not in lines] == []

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
    (finding,) = doctor.packages()
    assert finding.ok, finding.seen


def test_a_missing_or_different_package_is_reported(monkeypatch):
    monkeypatch.setattr(doctor, "locked_versions", lambda: {"peft": "0.0.1", "not-there": "1.0"})
    (finding,) = doctor.packages()
    assert not finding.ok and finding.fix
    assert f"peft {direct_pins()['peft']} instead of 0.0.1" in finding.seen
    assert "not-there 1.0 is missing" in finding.seen


# ---------------------------------------------------------------- the lock on other platforms


@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_lock_has_one_version_of_everything_for_each_platform(platform):
    names = [entry.name for entry, _ in selected(PLATFORMS[platform][0])]
    assert len(names) == len(set(names))
    assert set(direct_pins()) - {"torch"} <= set(names)
    assert ("pywinpty" in names) == platform.startswith("windows")


def pips_index() -> str:
    """The address of the registry that pip would ask; its help names it, whatever it was configured with."""
    command = [sys.executable, "-m", "pip", "install", "--help"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return re.search(r"Package\s+Index\s+\(default\s+(\S+?)/?\)", said)[1]


@pytest.fixture(scope="module")
def registry():
    """For each compiled package of the lock the wheels that the registry has: hash to the wheel's tags.

    Compiled: those with more files than a wheel for everybody and the source.
    """
    index = pips_index()
    names = {entry.name for entry, text in locked() if text.count("--hash") > 2}
    assert len(names) > 20
    with ThreadPoolExecutor(8) as pool:
        pages = [f"{index}/{canonicalize_name(name)}/" for name in names]
        return dict(zip(names, pool.map(wheels, pages), strict=True))


def wheels(page: str) -> dict[str, frozenset]:
    """The wheels on a package's page (PEP 503), or a skipped test if the registry does not answer."""
    try:
        with urllib.request.urlopen(page, timeout=60) as answer:
            text = answer.read().decode()
    except urllib.error.HTTPError:
        raise
    except OSError:
        pytest.skip("the package registry does not answer")
    found = {}
    for file, sha256 in re.findall(r'/([^/"#]+\.whl)#sha256=([0-9a-f]{64})', text):
        with contextlib.suppress(InvalidWheelFilename):  # of the years before the standard
            found[sha256] = parse_wheel_filename(file)[3]
    return found


@pytest.mark.network
@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_registry_has_a_wheel_with_a_locked_hash_for_each_platform(platform, registry):
    markers, platforms = PLATFORMS[platform]
    fit = {*cpython_tags((3, 11), platforms=platforms), *compatible_tags((3, 11), "cp311", platforms)}
    for entry, text in selected(markers):
        if entry.name in registry:
            hashes = re.findall(r"--hash=sha256:([0-9a-f]{64})", text)
            assert any(fit & registry[entry.name].get(h, frozenset()) for h in hashes), entry


# ---------------------------------------------------------------- imports


def test_importing_the_light_modules_leaves_torch_alone():
    modules = "cli files tickets profiles predictions claims exercises.engine base_model doctor upstream"
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
