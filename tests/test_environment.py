"""The pins, the lock, conda's file and lab.py agree; importing the package is light and goes one way."""

import importlib.util
import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement

from labsupport import doctor
from labsupport.files import ROOT

LINUX = {"sys_platform": "linux", "os_name": "posix", "platform_system": "Linux"}
MAC = {"sys_platform": "darwin", "os_name": "posix", "platform_system": "Darwin"}
WINDOWS = {"sys_platform": "win32", "os_name": "nt", "platform_system": "Windows"}
# What lab.py supports: the markers there, and the tags that pip would accept wheels for.
# glibc 2.31, as the README says: llguidance has no wheel for an older one.
MANYLINUX = ("manylinux_2_31", "manylinux_2_28", "manylinux_2_24", "manylinux_2_17", "manylinux2014")
PLATFORMS = {
    "linux-x86_64": (
        {**LINUX, "platform_machine": "x86_64"},
        [f"{tag}_x86_64" for tag in MANYLINUX],
    ),
    "linux-aarch64": (
        {**LINUX, "platform_machine": "aarch64"},
        [f"{tag}_aarch64" for tag in MANYLINUX],
    ),
    "macos-arm64": ({**MAC, "platform_machine": "arm64"}, ["macosx_14_0_arm64", "macosx_14_0_universal2"]),
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


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """For each platform a running pip that looks for the wheels of the compiled packages: all at once, since
    they wait for the network. Compiled: those with more files than a wheel for everybody and the source.

    pip evaluates markers for the machine it runs on, so the entries are chosen here.
    """
    options = "--dry-run --quiet --no-deps --require-hashes --only-binary=:all: --python-version 3.11.9"
    options += " --implementation cp --abi cp311 --abi abi3 --abi none"
    running = {}
    for platform, (markers, tags) in PLATFORMS.items():
        compiled = [text for _, text in selected(markers) if text.count("--hash") > 2]
        assert len(compiled) > 20
        folder = tmp_path_factory.mktemp(platform)
        requirements = folder / "requirements.txt"
        requirements.write_text("\n".join(re.sub(r" ;[^\\\n]*", " ", text) for text in compiled))
        command = [sys.executable, "-m", "pip", "install", *options.split(), "-r", str(requirements)]
        command += [f"--platform={tag}" for tag in tags] + ["--target", str(folder / "target")]
        errors = (folder / "errors").open("w+")
        running[platform] = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors), errors
    yield running
    for process, errors in running.values():
        process.kill()
        process.wait()
        errors.close()


@pytest.mark.network
@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_registry_has_a_wheel_with_a_locked_hash_for_each_platform(platform, asked):
    process, errors = asked[platform]
    status = process.wait()
    errors.seek(0)
    said = errors.read()
    if "NewConnectionError" in said or "NameResolutionError" in said:
        pytest.skip("the package registry does not answer")
    assert status == 0, said


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
