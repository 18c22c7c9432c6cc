"""deploy/prune.py: what it takes out of the image's environment, and what still works after it."""

from __future__ import annotations

import importlib.metadata
import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PRUNE = runpy.run_path(str(ROOT / "deploy/prune.py"))
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the image is Linux")


def library(distribution: str, pattern: str) -> Path:
    """One compiled module of an installed distribution."""
    owner = importlib.metadata.distribution(distribution)
    return next(Path(str(owner.locate_file(f))) for f in owner.files or [] if f.match(pattern))


def test_a_stripped_library_is_smaller_and_loads(tmp_path: Path) -> None:
    source = library("httptools", "parser/parser*.so")
    package = tmp_path / "httptools" / "parser"
    shutil.copytree(source.parents[1], tmp_path / "httptools")
    copy = package / source.name
    freed = PRUNE["strip"](copy)
    assert freed > 0
    assert copy.stat().st_size == source.stat().st_size - freed
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); from httptools.parser import parser;"
        "assert parser.__file__.startswith(sys.argv[1]);"
        "print(parser.HttpRequestParser(object()).should_keep_alive())"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_stripping_twice_frees_nothing_more(tmp_path: Path) -> None:
    source = library("httptools", "parser/parser*.so")
    copy = Path(shutil.copy(source, tmp_path))
    PRUNE["strip"](copy)
    once = copy.read_bytes()
    assert PRUNE["strip"](copy) == 0
    assert copy.read_bytes() == once


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"\x7fELF\x01\x01" + bytes(90), b"GROUP ( )"])
def test_anything_else_than_a_64_bit_library_stays(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.so"
    path.write_bytes(content)
    assert PRUNE["strip"](path) == 0
    assert path.read_bytes() == content


def test_serving_loads_nothing_that_is_pruned() -> None:
    # The build proves the same with the pruned files gone (deploy/warm.py); this needs no engine.
    script = (
        "import json, sys; import service.server, service.workers, service.commands.classify;"
        "from service.app import default_model; from service.model import Model;"
        "Model.load(default_model());"
        "print(json.dumps([m.__file__ for m in sys.modules.values() if getattr(m, '__file__', 0)]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, cwd=ROOT)
    loaded = {Path(name) for name in json.loads(done.stdout.splitlines()[-1])}
    site = Path(str(importlib.metadata.distribution("numpy").locate_file("")))
    pruned = {match for pattern in PRUNE["UNUSED"] for match in site.glob(pattern)}
    assert pruned
    assert {path for path in loaded if pruned & {path, *path.parents}} == set()
