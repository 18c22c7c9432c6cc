"""`flatfold verify`: same or not, for people, for programs and for the exit status."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from flatfold.cli import main
from tests.export.classifiers import finished, planes_model
from tests.export.networks import noise


@pytest.fixture
def pair(tmp_path):
    """A model and itself, as two files."""
    files = tmp_path / "a.onnx", tmp_path / "b.onnx"
    for file in files:
        onnx.save(finished(planes_model()), file)
    return files


def _change(path, factor):
    model = onnx.load(path)
    tensor = next(t for t in model.graph.initializer if len(t.dims) == 4)
    values = numpy_helper.to_array(tensor).copy()
    values[0] *= factor
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, path)


def _verify(*arguments):
    return main(["verify", *map(str, arguments)])


def test_two_that_compute_the_same(pair, capsys):
    assert _verify(*pair) == 0
    text = capsys.readouterr().out
    assert text.startswith("same: 64 samples (0 pictures)")
    assert "top-1 agreement 100.00%" in text


def test_figures_for_programs(pair, capsys):
    assert _verify(*pair, "--json", "--samples", 5, "--seed", 3) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["samples"], figures["holds"], figures["top1_agreement"]) == (5, True, 1)


@pytest.mark.parametrize("factor", [1.001, -1.0, np.nan])
def test_a_changed_weight_is_seen(pair, capsys, factor):
    _change(pair[1], factor)
    assert _verify(*pair) == 1
    captured = capsys.readouterr()
    assert "computes something else" in captured.err
    assert captured.err.count("\n") == 1
    assert "same" not in captured.out


def test_a_tolerance_may_allow_it(pair):
    _change(pair[1], 1.001)
    assert _verify(*pair, "--tolerance", 0.1) == 0


def test_pictures_join_the_proof(pair, tmp_path, capsys):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, pixels in enumerate(noise(3, 20)):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    assert _verify(*pair, "--check-data", folder) == 0
    assert "67 samples (3 pictures)" in capsys.readouterr().out


def test_a_folder_without_pictures_is_an_error(pair, tmp_path, capsys):
    folder = tmp_path / "empty"
    folder.mkdir()
    assert _verify(*pair, "--check-data", folder) == 1
    assert "no pictures in" in capsys.readouterr().err


def test_models_with_other_inputs_cannot_be_compared(pair, capsys):
    onnx.save(planes_model(), pair[1])
    assert _verify(*pair) == 1
    assert "inputs differ" in capsys.readouterr().err


def test_no_samples_is_a_usage_error(pair, capsys):
    assert _verify(*pair, "--samples", 0) == 2
    assert "--samples must be at least 1, got 0" in capsys.readouterr().err


def test_what_is_no_model_is_named(pair, capsys):
    pair[1].write_bytes(b"nothing")
    assert _verify(*pair) == 1
    error = capsys.readouterr().err
    assert "b.onnx" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("tolerance", ["-1", "0", "nan", "inf"])
def test_a_tolerance_that_would_pass_or_fail_everything_is_refused(pair, capsys, tolerance):
    assert _verify(*pair, f"--tolerance={tolerance}") == 2
    assert "must be a positive number" in capsys.readouterr().err


def test_a_negative_seed_is_a_usage_error(pair, capsys):
    assert _verify(*pair, "--seed", "-1") == 2
    assert "--seed must be at least 0, got -1" in capsys.readouterr().err
