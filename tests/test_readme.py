"""README's console blocks are run, and what they print is what it says they print.

A block is ```console; a line starting with `$ ` is a command, the lines below it its output, in
which `...` stands for anything. `make` commands are only checked to exist: .ci/run calls them.
"""

import fnmatch
import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
MODEL = ROOT / "flatfold" / "models" / "cifar10.onnx"
BINARIES = Path(sys.executable).parent


def examples():
    """Yield (command, expected output) pairs in the order of the page."""
    for block in re.findall(r"```console\n(.*?)```", README, flags=re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            while command.endswith("\\"):
                more, _, output = output.partition("\n")
                command = command[:-1] + more.removeprefix("> ")
            yield command, output


def normal(text):
    """Collapse white space, so that a line may be wrapped on the page."""
    return re.sub(r"\s+", " ", text).strip()


def pattern(expected):
    escaped = re.sub(r"([\[\]?*])", r"[\1]", normal(expected))
    return escaped.replace("...", "*")


@contextmanager
def server(folder):
    process = subprocess.Popen(
        [BINARIES / "flatfold", "serve", "--port", "0"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    seen = []
    for line in process.stdout:
        seen.append(line)
        if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
            break
    else:
        pytest.fail(f"the server ended: {seen}")
    threading.Thread(target=process.stdout.read, daemon=True).start()
    try:
        yield found[1]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    data = pytest.importorskip("skimage.data")
    path = tmp_path_factory.mktemp("readme")
    Image.fromarray(data.chelsea()).save(path / "cat.jpg", quality=92)
    (path / "cifar10.onnx").write_bytes(MODEL.read_bytes())
    return path


def shell(command, folder):
    environment = {**os.environ, "PATH": f"{BINARIES}:{os.environ['PATH']}"}
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_every_example_prints_what_the_page_says(folder):
    run = 0
    with server(folder) as port:
        for command, expected in examples():
            if command.startswith(("make ", "git ", "pip ", "docker ")):
                continue
            done = shell(command.replace(":8000", f":{port}"), folder)
            printed = normal(done.stdout + done.stderr).replace(f":{port}", ":8000")
            assert fnmatch.fnmatchcase(printed, pattern(expected)), (
                f"$ {command}\nprinted\n{printed}\nthe page says\n{normal(expected)}"
            )
            assert done.returncode == 0, printed
            run += 1
    assert run >= 3


def test_the_make_targets_of_the_page_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"(?:`|\$ )make ([a-z-]+)", README))
    assert {"run", "test"} <= named <= targets


def test_every_file_that_the_page_links_to_exists():
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert all((ROOT / link).exists() for link in links)
