import argparse
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flatfold.cli import COMMANDS, main

MODEL = str(Path(__file__).parents[1] / "flatfold/models/cifar10.onnx")


def run(*words, **options):
    return subprocess.run(
        [sys.executable, "-m", "flatfold", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        **options,
    )


def test_help_lists_every_command():
    done = run("--help")
    assert done.returncode == 0
    assert all(f"    {name}" in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_and_loads_nothing_heavy(name):
    heavy = "torch", "onnx", "onnxruntime", "fastapi", "matplotlib", "PIL"
    code = (
        "import sys, contextlib, flatfold.cli as cli\n"
        f"with contextlib.suppress(SystemExit): cli.main([{name!r}, '--help'])\n"
        f"sys.exit(' '.join(sorted(set(sys.modules) & set({heavy!r}))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: flatfold" in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_each_default(name):
    parser = argparse.ArgumentParser()
    importlib.import_module(COMMANDS[name][0]).add_arguments(parser)
    for action in parser._actions:
        if action.option_strings and action.default not in (None, False, [], argparse.SUPPRESS):
            assert f"(default: {action.default})" in action.help, action.option_strings


def test_an_unknown_command_is_a_usage_error():
    done = run("fly")
    assert done.returncode == 2
    assert "invalid choice: 'fly'" in done.stderr


def test_an_expected_failure_is_one_line(capsys, tmp_path):
    code = main(["inspect", str(tmp_path / "missing.onnx")])
    error = capsys.readouterr().err
    assert code == 1
    assert error.startswith("flatfold: error: ")
    assert error.count("\n") == 1
    assert "missing.onnx" in error


def test_a_missing_extra_is_named(tmp_path):
    (tmp_path / "onnx.py").write_text("raise ModuleNotFoundError(name='onnx')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = run("inspect", "model.onnx", env=environment)
    assert done.returncode == 1
    assert "pip install 'flatfold[fold]'" in done.stderr


def speak(words, before="", **settings):
    """Run a command that does nothing but speak, in a process of its own."""
    code = (
        f"import sys; {before}\n"
        "from flatfold import cli; from types import SimpleNamespace\n"
        f"def speak(_): {words}; return 0\n"
        "command = SimpleNamespace(add_arguments=lambda parser: None, run=speak)\n"
        "cli._load = lambda *names: command\n"
        "sys.exit(cli.main(['inspect']))"
    )
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | settings
    return subprocess.run([sys.executable, "-c", code], text=True, check=False, **settings)


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_a_closed_stream_ends_no_command(closed):
    before = f"sys.{closed} = None"  # what Python makes of one closed before the start
    done = speak("sys.stdout.write('said'); sys.stderr.write('said')", before)
    assert (done.returncode, done.stdout + done.stderr) == (0, "said")


def test_a_letter_that_the_terminal_lacks_is_escaped():
    environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict"}
    done = speak(r"print('caf\udce9 \u732b')", env=environment)
    assert (done.returncode, done.stdout) == (0, "caf\\udce9 \\u732b\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no file that is always full")  # noqa: PTH110
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "words",
    [["inspect", MODEL], ["serve", "--show-config"], ["serve", "--port", "0"]],
    ids=lambda words: words[-2],
)
def test_a_full_disk_behind_stdout_is_one_line(words, unbuffered):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [sys.executable, "-m", "flatfold", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "flatfold: error: cannot write the output: No space left on device"
    )
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_a_reader_that_left_hears_nothing_more():
    left, out = os.pipe()
    os.close(left)
    words = [sys.executable, "-m", "flatfold", "serve", "--show-config"]
    done = subprocess.run(words, stdout=out, stderr=subprocess.PIPE, check=False, timeout=60)
    os.close(out)
    assert (done.returncode, done.stderr) == (1, b"")
