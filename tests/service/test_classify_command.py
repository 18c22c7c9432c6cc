import io
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from flatfold.cli import main

from .onnx_models import adder, dazzled, picture_classifier
from .test_classify import picture


@pytest.fixture
def model(tmp_path):
    return str(picture_classifier(tmp_path / "tiny.onnx"))


def answer(capsys):
    out, err = capsys.readouterr()
    return json.loads(out), err


def test_pictures_are_answered_in_order_as_the_server_does(tmp_path, model, capsys):
    files = []
    for name in ("blue", "red"):
        files.append(str(tmp_path / f"{name}.png"))
        (tmp_path / f"{name}.png").write_bytes(picture(name))
    assert main(["classify", *files, "--model", model, "--top-k", "1"]) == 0
    said, err = answer(capsys)
    assert said["model"] == "tiny"
    assert [result["filename"] for result in said["results"]] == files
    assert [r["predictions"][0]["label"] for r in said["results"]] == ["blue", "red"]
    assert err == ""


def test_a_file_that_cannot_be_read_fails_alone(tmp_path, model, capsys):
    good, text, absent = (str(tmp_path / name) for name in ("a.png", "b.png", "absent.png"))
    (tmp_path / "a.png").write_bytes(picture("green"))
    (tmp_path / "b.png").write_bytes(b"no picture")
    assert main(["classify", text, absent, str(tmp_path), good, "--model", model]) == 1
    said, err = answer(capsys)
    assert [("error" in result) for result in said["results"]] == [True, True, True, False]
    assert err.splitlines() == [
        f"flatfold: error: {text}: {said['results'][0]['error']}",
        f"flatfold: error: {absent}: cannot be read: No such file or directory",
        f"flatfold: error: {tmp_path}: cannot be read: Is a directory",
    ]
    assert "not a picture that can be read" in err


def test_scores_that_are_no_numbers_are_an_error_as_the_server_has_it(tmp_path, capsys):
    model = str(picture_classifier(tmp_path / "nan.onnx", gain=np.nan))
    (tmp_path / "a.png").write_bytes(picture("green"))
    assert main(["classify", str(tmp_path / "a.png"), "--model", model]) == 1
    said, err = answer(capsys)
    assert said["results"][0]["error"] == "the model gave NaN or infinity as this picture's scores"
    assert said["results"][0]["error"] in err


def test_a_picture_that_the_model_fails_on_fails_alone(tmp_path, capsys):
    path = dazzled(tmp_path / "dazzled.onnx", brightest=200)
    files = [str(tmp_path / f"{level}.png") for level in (200, 201, 0)]
    for file, level in zip(files, (200, 201, 0), strict=True):
        Image.new("L", (8, 8), level).save(file)
    assert main(["classify", *files, "--model", str(path)]) == 1
    said, err = answer(capsys)
    assert [("error" in result) for result in said["results"]] == [False, True, False]
    assert said["results"][1]["error"].startswith("the model failed to run: ")
    assert f"{files[1]}: the model failed to run: " in err


@pytest.mark.parametrize(
    ("redirection", "message"),
    [("<&-", "the standard input is closed"), ("0>/dev/null", "Bad file descriptor")],
)
def test_a_standard_input_that_cannot_be_read_is_told(redirection, message, model):
    command = f'"{sys.executable}" -m flatfold classify - --model "{model}" {redirection}'
    done = subprocess.run(
        ["sh", "-c", command], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr == f"flatfold: error: -: cannot be read: {message}\n"
    assert json.loads(done.stdout)["results"] == [
        {"filename": "-", "error": f"cannot be read: {message}"}
    ]


def test_a_dash_reads_the_standard_input(model, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(picture("red"))))
    assert main(["classify", "-", "--model", model]) == 0
    said, _ = answer(capsys)
    assert said["results"][0]["predictions"][0]["label"] == "red"


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["--top-k", "0"], "--top-k must be at least 1, got 0", 2),
        (["--model", "nowhere.onnx"], "no model at nowhere.onnx", 1),
    ],
)
def test_what_cannot_be_asked_for_is_told(arguments, message, code, capsys):
    assert main(["classify", "-", *arguments]) == code
    assert message in capsys.readouterr().err


def test_a_model_without_a_card_is_told(tmp_path, capsys):
    path = adder(tmp_path / "adder.onnx")
    assert main(["classify", "-", "--model", str(path)]) == 1
    assert "adder.onnx has no card" in capsys.readouterr().err
