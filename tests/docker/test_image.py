"""What is in the image, and what is not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.docker.engine import BASE, IMAGE, docker
from tests.docker.traffic import CLASSIFY, good_calls

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.docker.engine import Served


def inspect(image: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(docker("image", "inspect", image).stdout)
    return found[0]


def test_its_size_above_the_base(figure: Callable[[str], None]) -> None:
    image, base = inspect(IMAGE)["Size"], inspect(BASE)["Size"]
    figure(f"image {image / 1e6:.0f} MB, {(image - base) / 1e6:.0f} MB above {BASE}")
    assert image > base


def test_the_environment_holds_serving_and_nothing_else(served: Served) -> None:
    # Found as a program would find them: pip may come with the base, and must be out of reach.
    names = "torch onnx training export tests matplotlib sympy pip setuptools numpy service"
    script = (
        "from importlib.util import find_spec; import sys;"
        "print(*(name for name in sys.argv[1:] if find_spec(name)))"
    )
    assert served.shell(f'python -s -c "{script}" {names}').stdout == b"numpy service\n"


def test_no_compiler_cache_or_test_comes_with_it(served: Served) -> None:
    done = served.shell(
        "command -v cc gcc g++ ld make; ls -d /root/.cache /tmp/* /opt/app/tests /opt/app/deploy; "
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


def test_its_labels_say_what_it_is(served: Served) -> None:
    labels = inspect(IMAGE)["Config"]["Labels"]
    version = served.execute("flatfold", "--version").stdout.decode().split()[-1]
    assert labels["org.opencontainers.image.title"] == "flatfold"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert labels["org.opencontainers.image.version"] == version
    assert len(labels["org.opencontainers.image.revision"]) == 40


def test_tmp_is_the_only_writable_path(rooted: Served) -> None:
    writable = (
        "find / -xdev -writable ! -type l ! -path '/tmp*' ! -path '/proc*' -print 2>/dev/null"
    )
    user = inspect(IMAGE)["Config"]["User"]
    done = rooted.execute("/bin/sh", "-c", writable, options=["--user", user])
    # What every Debian image leaves open to all: locks and mail of a system that does not run.
    system = {b"/var/tmp", b"/run/lock", b"/dev/shm", b"/var/lock"}
    assert {line for line in done.stdout.split() if not line.startswith(b"/dev/")} <= system


def test_nothing_is_writable_when_the_root_is_read_only(served: Served, furnished: Served) -> None:
    touch = "for path in /models /opt/app /var/tmp / /tmp; do touch $path/x && echo $path; done"
    assert served.shell(touch).stdout == b""
    assert served.shell(touch).stderr.count(b"Read-only file system") == 5
    # With --tmpfs /tmp, that alone.
    assert furnished.shell(f"{touch}; rm /tmp/x").stdout == b"/tmp\n"


def test_all_bytecode_that_serving_loads_is_there(rooted: Served, png: bytes, jpeg: bytes) -> None:
    # A read-only root cannot keep bytecode, so what lacks it is compiled at every start. This
    # container keeps what it compiles: nothing, if all of it is in the image and is trusted.
    for call in good_calls(png, jpeg):
        assert rooted.request(call.method, call.path, call.body, call.headers)[0] == 200
    assert rooted.request("POST", CLASSIFY, b"no picture")[0] in {400, 415, 422}
    assert rooted.execute("flatfold", "classify", "-", data=png).returncode == 0
    changed = docker("diff", rooted.name).stdout.decode().split()
    assert [path for path in changed if path.endswith(".pyc")] == []
    assert rooted.shell("ls /opt/app/pycache/opt/app/service/server*").returncode == 0
