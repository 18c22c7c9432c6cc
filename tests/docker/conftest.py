"""Fixtures for the tests of the built image; `make docker-test` builds it and runs them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from tests.docker.engine import IMAGE, Served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder, and skip it where no image was built for it."""
    skip = pytest.mark.skip(reason="needs a built image: make docker-test")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.docker)
            if not IMAGE:
                item.add_marker(skip)


@pytest.fixture
def served() -> Iterator[Served]:
    """A container that is not started yet, removed at the end."""
    container = Served()
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
