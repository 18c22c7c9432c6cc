"""The console blocks of the README and of docs/export.md are run, and print what the pages say.

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

import onnx
import pytest
from PIL import Image

from tests.export.sketch import Sketch
from tests.training.small_models import small_card, write_checkpoint

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = "README.md", "docs/export.md"
BINARIES = Path(sys.executable).parent


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)


def examples(page):
    """Yield (command, expected output) pairs in the order of the page."""
    for block in blocks(page, "console"):
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
    write_checkpoint(path / "model.safetensors", small_card())
    onnx.save(someones_model(), path / "theirs.onnx")
    return path


def someones_model():
    """Two batch norms that fold, and one between a ReLU and a padded convolution."""
    sketch = Sketch()
    x = sketch.input("N", 3, 16, 16)
    for channels in (3, 8):
        x = sketch.op("Relu", sketch.batch_norm(sketch.conv(x, channels, 8), 8))
    sketch.output(sketch.conv(sketch.batch_norm(x, 8), 8, 8, pads=[1] * 4))
    return sketch.model()


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


@pytest.mark.parametrize("page", PAGES)
def test_every_example_prints_what_the_page_says(page, folder):
    run = 0
    with server(folder) as port:
        for command, expected in examples(page):
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


def test_the_python_of_the_page_runs(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    for code in blocks("docs/export.md", "python"):
        exec(code, {})  # noqa: S102 - our own page
    assert capsys.readouterr().out.splitlines()[0] == "2 of 3 batch norms folded"


def test_the_make_targets_of_the_page_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"(?:`|\$ )make ([a-z-]+)", README))
    assert {"run", "test"} <= named <= targets
