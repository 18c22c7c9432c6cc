"""The wheel and the sdist, installed where nothing is but what the serving lock names."""

from __future__ import annotations

import importlib.metadata
import io
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from PIL import Image

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements" / "serving.txt"
PACKAGES = {"flatfold", "service", "training", "export"}


def build(source: Path, target: Path, kind: str) -> Path:
    """Build one wheel or sdist of the checkout or of an unpacked sdist."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(target)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (built,) = target.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("wheel"), "wheel")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(build(ROOT, folder, "sdist")) as archive:
        # Python before 3.11.4 has no filters and leaves the attribute unread.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(folder)  # noqa: S202 # the archive that this test built
    return next(path for path in folder.iterdir() if path.is_dir())


def locked() -> list[Requirement]:
    """The lock's requirements, without hashes, that apply to this Python and system."""
    lines = re.findall(r"^([a-zA-Z0-9][^\\\n]*?) *\\?$", LOCK.read_text(), re.MULTILINE)
    requirements = [Requirement(line) for line in lines]
    return [r for r in requirements if r.marker is None or r.marker.evaluate()]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """A clean environment's interpreter: the wheel, and links to the locked distributions alone.

    Links instead of an installation: the tests stay offline, and yet torch, onnx and everything
    else of the development environment is out of reach.
    """
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    for requirement in locked():
        owner = importlib.metadata.distribution(requirement.name)
        # Parent paths lead to scripts beside the environment, which nothing here calls.
        names = {path.parts[0] for path in owner.files or []} - {"..", "__pycache__"}
        for name in names:
            (site / name).symlink_to(Path(str(owner.locate_file(name))))
    interpreter = folder / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--python", str(interpreter), "install"]
    subprocess.run(
        [*command, "--quiet", "--no-deps", "--no-index", str(wheel)],
        check=True,
        capture_output=True,
    )
    return interpreter


def flatfold(
    python: Path, *arguments: str, data: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """Run the installed command, away from the checkout."""
    command = [str(python.parent / "flatfold"), *arguments]
    return subprocess.run(command, input=data, capture_output=True, cwd=python.parent, check=False)


def cat() -> bytes:
    from skimage import data  # noqa: PLC0415 (slow to import, and needed by two tests only)

    buffer = io.BytesIO()
    Image.fromarray(data.chelsea()).save(buffer, "PNG")
    return buffer.getvalue()


def test_the_wheel_holds_the_packages_and_the_default_model_only(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == PACKAGES
    assert "flatfold/models/cifar10.onnx" in names
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
    assert not [name for name in names if "__pycache__" in name or name.endswith(".safetensors")]


def test_the_sdist_builds_the_same_wheel(wheel: Path, unpacked: Path, tmp_path: Path) -> None:
    again = build(unpacked, tmp_path, "wheel")
    assert again.read_bytes() == wheel.read_bytes()


def test_the_sdist_holds_what_builds_and_tests_it(unpacked: Path) -> None:
    wanted = ["tests/test_packaging.py", "Dockerfile", "compose.yaml", "requirements/serving.txt"]
    wanted += ["Makefile", "README.md", "LICENSE", "docs/docker.md", "deploy/prune.py"]
    assert [name for name in wanted if not (unpacked / name).exists()] == []


def test_help_names_every_command(python: Path) -> None:
    done = flatfold(python, "--help")
    assert done.returncode == 0
    for command in (b"train", b"export", b"fold", b"serve", b"classify"):
        assert command in done.stdout


def test_version_is_the_wheels(python: Path, wheel: Path) -> None:
    assert flatfold(python, "--version").stdout.decode().strip() == " ".join(
        wheel.name.split("-")[:2]
    )


def test_classify_works_with_the_locked_dependencies_alone(python: Path) -> None:
    done = flatfold(python, "classify", "-", data=cat())
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"cat" in done.stdout


def test_training_says_which_extra_to_install(python: Path) -> None:
    done = flatfold(python, "train")
    lines = done.stderr.decode().splitlines()
    assert done.returncode == 1
    assert len(lines) == 1
    assert "pip install 'flatfold[train]'" in lines[0]


def test_make_begins_an_environment_anew(tmp_path: Path) -> None:
    stale = tmp_path / "env/lib/python3.0/site-packages/stale.py"
    stale.parent.mkdir(parents=True)
    stale.touch()
    folder = tmp_path / "env"
    # pip's place is taken by what needs no network; the target is that of `make run`.
    words = [f"SERVE_ENV={folder}", f"PYTHON={sys.executable}", "PIP=bin/python --version #"]
    subprocess.run(["make", *words, str(folder / ".done")], cwd=ROOT, check=True)
    assert (folder / "bin/python").exists()
    assert not stale.exists()


def test_the_lock_meets_what_pyproject_asks_for() -> None:
    pinned = {r.name: next(iter(r.specifier)).version for r in locked()}
    own = importlib.metadata.requires("flatfold") or []
    for requirement in map(Requirement, own):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            assert requirement.specifier.contains(pinned[requirement.name]), requirement


@pytest.mark.parametrize("name", ["serving", "serving-gpu"])
def test_every_lock_line_is_hashed_and_names_no_registry(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    blocks = re.findall(r"^[a-z0-9][^\n]*==.*(?:\n .*)*", text, re.MULTILINE)
    assert len(blocks) > 20
    assert [block for block in blocks if "--hash=sha256:" not in block] == []
    assert "://" not in text
