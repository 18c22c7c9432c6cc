"""The wheel and the sdist, installed with pip in a fresh container of the base image."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.docker.conftest import ROOT
from tests.docker.engine import BASE, docker

if TYPE_CHECKING:
    from collections.abc import Iterator

INSTALL = """
python3 -m venv /{kind} && cd /{kind} &&
bin/pip install --quiet --no-cache-dir --no-compile --require-hashes -r /lock.txt &&
bin/pip install --quiet --no-cache-dir --no-compile --no-deps /dist/{kind}/flatfold-* &&
bin/pip check && bin/flatfold classify -
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A container of the base image, with the built distributions mounted and nothing else."""
    folder = tmp_path_factory.mktemp("dist")
    for kind in ("wheel", "sdist"):
        command = [sys.executable, "-m", "hatchling", "build", "-t", kind]
        subprocess.run(
            [*command, "-d", str(folder / kind)], cwd=ROOT, check=True, capture_output=True
        )
    mounts = [
        f"--volume={folder}:/dist:ro",
        f"--volume={ROOT / 'requirements' / 'serving.txt'}:/lock.txt:ro",
    ]
    name = f"flatfold-clean-{uuid.uuid4().hex[:12]}"
    done = docker(
        *["run", "-d", "--network=host", "--name", name, *mounts],
        *["--entrypoint", "/bin/sleep", BASE, "3600"],
    )
    assert done.returncode == 0, done.stderr.decode()
    yield name
    docker("rm", "--force", name)


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_it_classifies_after_pip_install(kind: str, base: str, jpeg: bytes) -> None:
    done = docker("exec", "-i", base, "/bin/sh", "-c", INSTALL.format(kind=kind), data=jpeg)
    assert done.returncode == 0, done.stderr.decode()
    answer = json.loads(done.stdout.splitlines()[-1])
    assert len(answer["results"][0]["predictions"]) == 5
