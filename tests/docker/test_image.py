"""What is in the image, and what is not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.docker.engine import BASE, IMAGE, docker, run_once, shell

if TYPE_CHECKING:
    from collections.abc import Callable


def inspect(image: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(docker("image", "inspect", image).stdout)
    return found[0]


def test_its_size_above_the_base(figure: Callable[[str], None]) -> None:
    image, base = inspect(IMAGE)["Size"], inspect(BASE)["Size"]
    figure(f"image {image / 1e6:.0f} MB, {(image - base) / 1e6:.0f} MB above {BASE}")
    assert image > base


def test_the_environment_holds_serving_and_nothing_else() -> None:
    # Found as a program would find them: pip may come with the base, and must be out of reach.
    names = "torch onnx training export tests matplotlib sympy pip setuptools numpy service"
    script = (
        "from importlib.util import find_spec; import sys;"
        "print(*(name for name in sys.argv[1:] if find_spec(name)))"
    )
    assert shell(f'python -s -c "{script}" {names}').stdout == b"numpy service\n"


def test_no_compiler_cache_or_test_comes_with_it() -> None:
    done = shell(
        "command -v cc gcc g++ ld make; ls -d /root/.cache /tmp/* /opt/app/tests; "
        "find /opt -type d -name tests"
    )
    assert done.stdout == b""


def test_it_is_for_a_numeric_user_without_a_shell_in_between() -> None:
    config = inspect(IMAGE)["Config"]
    user, group = config["User"].split(":")
    assert int(user) > 0
    assert int(group) > 0
    assert config["Entrypoint"] == ["flatfold"]
    assert config["Cmd"] == ["serve"]
    assert config["Healthcheck"]["Test"][0] == "CMD"


def test_its_labels_say_what_it_is() -> None:
    labels = inspect(IMAGE)["Config"]["Labels"]
    version = run_once("--version").stdout.decode().split()[-1]
    assert labels["org.opencontainers.image.title"] == "flatfold"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert labels["org.opencontainers.image.version"] == version
    assert len(labels["org.opencontainers.image.revision"]) == 40


def test_tmp_is_the_only_writable_path() -> None:
    writable = (
        "find / -xdev -writable ! -type l ! -path '/tmp*' ! -path '/proc*' -print 2>/dev/null"
    )
    done = docker("run", "--rm", "--network=host", "--entrypoint", "/bin/sh", IMAGE, "-c", writable)
    # What every Debian image leaves open to all: locks and mail of a system that does not run.
    system = {b"/var/tmp", b"/run/lock", b"/dev/shm", b"/var/lock"}
    assert {line for line in done.stdout.split() if not line.startswith(b"/dev/")} <= system


def test_nothing_is_writable_when_the_root_is_read_only() -> None:
    done = shell(
        "touch /models/x /opt/app/x /var/tmp/x /x; touch /tmp/x && echo tmp", "--tmpfs=/tmp"
    )
    assert done.stdout == b"tmp\n"
    assert done.stderr.count(b"Read-only file system") == 4


def test_all_bytecode_is_there(figure: Callable[[str], None]) -> None:
    # A read-only root cannot keep bytecode, so whatever lacks it is compiled at every start.
    count = "find /opt -name '*.py' | wc -l; find /opt -name '*.pyc' | wc -l"
    sources, compiled = map(int, shell(count).stdout.split())
    figure(f"{compiled} bytecode files of {sources} sources")
    assert compiled >= sources
