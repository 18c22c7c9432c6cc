"""`flatfold fold` as a person calls it: real files, the real command line, the real proof."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from PIL import Image

from export.algebra import Affine
from flatfold.cli import main
from tests.export.patterns import batch_norms
from tests.export.sketch import Sketch


@pytest.fixture
def model(tmp_path):
    """Two batch norms, one of which must stay."""
    s = Sketch()
    x = s.batch_norm(s.conv(s.input("N", 3, 8, 8), 3, 4), 4)
    x = s.batch_norm(s.op("Relu", x), 4)
    s.output(s.op("Flatten", s.op("GlobalAveragePool", s.op("Relu", x))))
    path = tmp_path / "in.onnx"
    onnx.save(s.model(), path)
    return path


def test_it_folds_proves_reports_and_writes(model, tmp_path, capsys):
    output, report = tmp_path / "out.onnx", tmp_path / "report.json"
    assert main(["fold", str(model), "-o", str(output), "--report", str(report)]) == 0
    printed = capsys.readouterr().out
    assert "1 of 2 batch norms folded" in printed
    assert "kept batchnormalization_1: relu_0 (Relu) cannot take a scale and shift" in printed
    assert "proven: " in printed
    assert batch_norms(onnx.load(output)) == 1
    entries = json.loads(report.read_text())
    assert [entry["verdict"] for entry in entries["verdicts"]] == ["folded", "kept"]
    assert entries["verdicts"][1]["blocker"] == "relu_0"


def test_the_same_input_gives_the_same_bytes(model, tmp_path):
    for name in ("a.onnx", "b.onnx"):
        assert main(["fold", str(model), "-o", str(tmp_path / name), "--no-proof"]) == 0
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_strict_fails_where_one_stays_and_writes_nothing(model, tmp_path, capsys):
    output = tmp_path / "out.onnx"
    assert main(["fold", str(model), "-o", str(output), "--strict"]) == 1
    assert f"1 of 2 batch norms stay; {output} is not written" in capsys.readouterr().err
    assert not output.exists()


def test_a_model_that_takes_texts_is_told_how_to_be_written(tmp_path, capsys):
    s = Sketch()
    s.output(s.batch_norm(s.conv(s.input("N", 3, 8, 8), 3, 4), 4))
    text = s.input("N", name="text", element=onnx.TensorProto.STRING)
    s.outputs.append(
        onnx.helper.make_tensor_value_info(s.op("Identity", text), onnx.TensorProto.STRING, ["N"])
    )
    onnx.save(s.model(), tmp_path / "in.onnx")
    command = ["fold", str(tmp_path / "in.onnx"), "-o", str(tmp_path / "out.onnx")]
    assert main(command) == 1
    assert "tensor(string)" in (error := capsys.readouterr().err)
    assert error.endswith("; --no-proof writes the model unproven\n")
    assert main([*command, "--no-proof"]) == 0


def test_real_pictures_join_the_proof(model, tmp_path, capsys):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 30, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    arguments = ["fold", str(model), "-o", str(tmp_path / "out.onnx"), "--check-data", str(folder)]
    assert main(arguments) == 0
    assert "(3 pictures)" in capsys.readouterr().out


def test_a_wrong_fold_is_never_written(model, tmp_path, capsys, monkeypatch):
    output = tmp_path / "out.onnx"
    output.write_bytes(b"the old one")
    right = Affine.of_batch_norm
    monkeypatch.setattr(
        Affine, "of_batch_norm", lambda g, b, m, v, epsilon: right(g, b, 0 * m, v, epsilon)
    )
    assert main(["fold", str(model), "-o", str(output)]) == 1
    assert "the changed model computes something else" in capsys.readouterr().err
    assert output.read_bytes() == b"the old one"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in.onnx", "out.onnx"]


def test_broken_statistics_are_refused(tmp_path, capsys):
    s = Sketch()
    parameters = s.statistics(4)
    parameters[3] = s.constant(-np.ones(4))
    conv = s.conv(s.input("N", 3, 6, 6), 3, 4)
    s.output(s.op("BatchNormalization", conv, *parameters, name="bn7"))
    onnx.save(s.model(), tmp_path / "in.onnx")
    assert main(["fold", str(tmp_path / "in.onnx"), "-o", str(tmp_path / "out.onnx")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "bn7" in error
    assert "variance[0] is negative" in error
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"no model at all", "not an ONNX model"), (None, "No such file")],
    ids=["not ONNX", "missing"],
)
def test_bad_input_is_one_line(tmp_path, capsys, content, words):
    path = tmp_path / "in.onnx"
    if content is not None:
        path.write_bytes(content)
    assert main(["fold", str(path), "-o", str(tmp_path / "out.onnx")]) == 1
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_an_output_that_cannot_be_written_is_one_line(model, tmp_path, capsys):
    assert main(["fold", str(model), "-o", str(tmp_path / "missing" / "out.onnx")]) == 1
    assert "cannot write" in capsys.readouterr().err


def test_an_output_that_is_no_file_stays_what_it_is(model, tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    assert main(["fold", str(model), "-o", str(tmp_path / "pipe")]) == 1
    said = capsys.readouterr()
    assert "no regular file" in said.err
    assert not said.out  # nothing was folded in vain
    assert (tmp_path / "pipe").is_fifo()


def test_external_data_is_folded_and_proven(model, tmp_path):
    onnx.save(
        onnx.load(model), model, save_as_external_data=True, location="w.bin", size_threshold=16
    )
    (tmp_path / "out").mkdir()
    assert main(["fold", str(model), "-o", str(tmp_path / "out" / "out.onnx")]) == 0
    assert batch_norms(onnx.load(tmp_path / "out" / "out.onnx")) == 1


@pytest.mark.parametrize(
    ("location", "report"),
    [("out.onnx.data", "r.json"), ("out.onnx", "r.json"), ("w.bin", "w.bin")],
)
def test_the_data_of_the_input_is_never_written_over(model, tmp_path, capsys, location, report):
    onnx.save(
        onnx.load(model), model, save_as_external_data=True, location=location, size_threshold=16
    )
    before = (tmp_path / location).read_bytes()
    paths = ["-o", str(tmp_path / "out.onnx"), "--report", str(tmp_path / report)]
    assert main(["fold", str(model), *paths]) == 2
    assert "which would be lost; choose another name" in capsys.readouterr().err
    assert (tmp_path / location).read_bytes() == before


def test_a_model_with_external_data_may_be_folded_onto_itself(model):
    onnx.save(
        onnx.load(model),
        model,
        save_as_external_data=True,
        location=f"{model.name}.data",
        size_threshold=16,
    )
    assert main(["fold", str(model), "-o", str(model)]) == 0
    onnx.checker.check_model(str(model), full_check=True)


@pytest.mark.parametrize("name", ["in.onnx", "out.onnx"])
def test_a_report_on_top_of_a_model_is_refused(model, tmp_path, capsys, name):
    before = model.read_bytes()
    paths = ["-o", str(tmp_path / "out.onnx"), "--report", str(tmp_path / name)]
    assert main(["fold", str(model), *paths]) == 2
    assert "would overwrite the model" in capsys.readouterr().err
    assert model.read_bytes() == before
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize("external", [False, True])
def test_the_model_is_written_though_nobody_reads_what_is_said_of_it(model, tmp_path, external):
    onnx.save(onnx.load(model), model, save_as_external_data=external, size_threshold=16)
    output = tmp_path / "out.onnx"
    command = [sys.executable, "-u", "-m", "flatfold", "fold", str(model), "-o", str(output)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        _, said = process.communicate(timeout=120)
    assert said == b""
    assert batch_norms(onnx.load(output)) == 1
