"""The wheel and the sdist, installed with pip in a fresh container of the base image."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.docker.conftest import ROOT
from tests.docker.engine import BASE, docker

if TYPE_CHECKING:
    from pathlib import Path

INSTALL = """
python3 -m venv /clean && cd /clean &&
bin/pip install --quiet --no-cache-dir --require-hashes -r /lock.txt &&
bin/pip install --quiet --no-cache-dir --no-deps /dist/flatfold-* &&
bin/pip check && bin/flatfold classify -
"""


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_it_classifies_after_pip_install(kind: str, tmp_path: Path, jpeg: bytes) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    mounts = [
        f"--volume={tmp_path}:/dist:ro",
        f"--volume={ROOT / 'requirements' / 'serving.txt'}:/lock.txt:ro",
    ]
    done = docker(
        *["run", "--rm", "-i", "--network=host", *mounts],
        *[BASE, "/bin/sh", "-c", INSTALL],
        data=jpeg,
    )
    assert done.returncode == 0, done.stderr.decode()
    answer = json.loads(done.stdout.splitlines()[-1])
    assert len(answer["results"][0]["predictions"]) == 5
