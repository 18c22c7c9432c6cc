"""Fixtures for the tests of the built image; `make docker-test` builds it and runs them."""

from __future__ import annotations

import io
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from tests.docker.engine import HARDENED, IMAGE, Served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "flatfold" / "models" / "cifar10.onnx"
BODY_LIMIT = 32768


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder, and skip it where no image was built for it."""
    skip = pytest.mark.skip(reason="needs a built image: make docker-test")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.docker)
            if not IMAGE:
                item.add_marker(skip)


@pytest.fixture(scope="session")
def hardened(png: bytes) -> Iterator[tuple[Served, str]]:
    """The image as `docker run IMAGE` runs it, and its figures after one classification."""
    container = Served()
    began = time.monotonic()
    container.start()
    status, body = container.first_answer("POST", "/v1/classify", png)
    seconds = time.monotonic() - began
    assert status == 200, body
    first = f"first answer {seconds:.2f} s after docker run, then idle at {container.memory()}"
    yield container, first
    container.remove()


@pytest.fixture
def served(hardened: tuple[Served, str]) -> Served:
    """That container, serving, whatever the test before did to it."""
    hardened[0].start_again()
    return hardened[0]


@pytest.fixture(scope="session")
def furnished_container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Two workers with settings and a mounted folder of models."""
    folder = tmp_path_factory.mktemp("furnished") / "models"
    folder.mkdir()
    shutil.copy(MODEL, folder / "mine.onnx")
    # The folder must be open to the container's user, who owns nothing here.
    for path in (folder, *folder.parents[:2]):
        path.chmod(0o755)
    options = [
        f"--volume={folder}:/models:ro",
        f"--env=FLATFOLD_MAX_BODY={BODY_LIMIT}",
        # Several workers share their metrics in a temporary folder.
        "--tmpfs=/tmp:mode=1777",
    ]
    container = Served()
    container.start("serve", "--workers=2", options=[*HARDENED, *options])
    container.wait_ready()
    yield container
    container.remove()


@pytest.fixture
def furnished(furnished_container: Served) -> Served:
    """That container, serving."""
    furnished_container.start_again()
    return furnished_container


@pytest.fixture(scope="module")
def rooted() -> Iterator[Served]:
    """The image with nothing taken away: as root, on a writable root, keeping new bytecode."""
    container = Served()
    container.start(options=["--network=host", "--user=0", "--env=PYTHONDONTWRITEBYTECODE="])
    container.wait_ready()
    yield container
    container.remove()


@pytest.fixture(scope="session")
def png() -> bytes:
    """A 32x32 picture of noise, the size that the default model sees."""
    return encode("PNG")


@pytest.fixture(scope="session")
def jpeg() -> bytes:
    return encode("JPEG")


def encode(kind: str) -> bytes:
    pixels = np.random.default_rng(7).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def figure(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Print one measured figure where `make docker-test` shows it: measured, never asserted."""

    def show(line: str) -> None:
        with capsys.disabled():
            print(f"\nfigure: {line}", flush=True)  # noqa: T201 (printing is what it is for)

    return show
