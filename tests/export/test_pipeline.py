"""Whole exports: the same bytes from run to run, the card's figures, and layers left in float."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys

import onnx
import pytest
from PIL import Image

from export.pipeline import ExportSettings, export_checkpoint
from flatfold.cli import main
from flatfold.contract.card import CARD_KEY
from flatfold.contract.errors import UsageError
from tests.export.networks import BATCH_NORMS, CLASSES, noise, write_checkpoint
from tests.training.cifar_files import NAMES

PRECISIONS = ("fp32", "fp16", "int8")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("trained") / "checkpoint.safetensors")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Folders of ten classes of noise: eight pictures each to calibrate on, four to test on."""
    folder = tmp_path_factory.mktemp("pictures")
    for part, count, seed in (("train", 8, 0), ("test", 4, 1)):
        drawn = noise(count * CLASSES, seed=seed).reshape(CLASSES, count, 9, 9, 3)
        for name, images in zip(NAMES, drawn, strict=True):
            (folder / part / name).mkdir(parents=True)
            for number, image in enumerate(images):
                Image.fromarray(image).save(folder / part / name / f"{number}.png")
    return folder


def test_the_checkpoint_is_never_written_over(checkpoint, tmp_path, capsys):
    own = shutil.copyfile(checkpoint, tmp_path / "model.safetensors")
    before = own.read_bytes()
    assert main(["export", str(own), "-o", str(own)]) == 2
    assert "is the checkpoint" in capsys.readouterr().err
    assert own.read_bytes() == before


def export(checkpoint, folder, seed: str, *arguments: str) -> bytes:
    """Export a copy of `checkpoint` in `folder`, in a process of its own; `seed` also threads."""
    folder.mkdir()
    shutil.copyfile(checkpoint, folder / "checkpoint.safetensors")
    command = [sys.executable, "-m", "flatfold", "export", "checkpoint.safetensors"]
    environment = os.environ | {"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": seed}
    subprocess.run(
        [*command, "-o", "model.onnx", *arguments],
        cwd=folder,
        env=environment,
        check=True,
        timeout=240,
    )
    return (folder / "model.onnx").read_bytes()


def card_of(data: bytes):
    model = onnx.load_from_string(data)
    assert [entry.key for entry in model.metadata_props] == [CARD_KEY]
    return json.loads(model.metadata_props[0].value)


def test_two_exports_in_two_folders_are_the_same_bytes(tmp_path, checkpoint):
    first = export(checkpoint, tmp_path / "here", "1")
    assert first == export(checkpoint, tmp_path / "over there", "2")
    assert str(tmp_path).encode() not in first
    assert b"site-packages" not in first
    model = onnx.load_from_string(first)
    assert all(not node.metadata_props and not node.doc_string for node in model.graph.node)
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    assert [value.name for value in model.graph.output] == ["logits", "probabilities"]
    assert card_of(first)["proof"]["batch_norms_folded"] == BATCH_NORMS


def test_two_int8_exports_with_one_thread_and_with_two_are_the_same_bytes(
    tmp_path, checkpoint, pictures
):
    """The pictures are calibrated on in the same order and summed in the same order."""
    wanted = ("--precision", "int8", "--max-accuracy-drop", "100", "--data-dir", str(pictures))
    first = export(checkpoint, tmp_path / "here", "1", *wanted)
    assert first == export(checkpoint, tmp_path / "over there", "2", *wanted)
    assert str(tmp_path).encode() not in first
    assert str(pictures).encode() not in first
    operators = {node.op_type for node in onnx.load_from_string(first).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_on_request_the_card_tells_accuracy_and_speed_of_every_precision(
    tmp_path, checkpoint, pictures, precision
):
    settings = ExportSettings(
        precision=precision, data_dir=pictures, max_accuracy_drop=100, measure_speed=True
    )
    exported = export_checkpoint(checkpoint, tmp_path / "model.onnx", settings)
    card = card_of((tmp_path / "model.onnx").read_bytes())
    assert exported.notes == ()
    assert card["accuracy"]["test_images"] == 4 * CLASSES
    assert card["accuracy"]["test_top1"] == card["accuracy"][f"test_top1_{precision}"]
    for name in PRECISIONS:
        assert 0 <= card["accuracy"][f"test_top1_{name}"] <= 1
        assert card["speed"][f"{name}_images_per_second"] > 0
    assert card["speed"]["unfolded_fp32_images_per_second"] > 0
    assert card["speed"]["cpu"]


def test_what_was_not_asked_for_is_not_measured(tmp_path, checkpoint, pictures):
    """The card of a plain export says nothing that another machine could say otherwise."""
    settings = ExportSettings(data_dir=pictures)
    card = export_checkpoint(checkpoint, tmp_path / "model.onnx", settings).card
    assert card.speed == {}
    assert card.accuracy == {}


def test_without_pictures_speed_alone_is_measured_and_the_rest_is_told(
    tmp_path, checkpoint, monkeypatch
):
    monkeypatch.setattr("export.pipeline.find_cifar10", lambda: None)
    settings = ExportSettings(measure_speed=True)
    exported = export_checkpoint(checkpoint, tmp_path / "model.onnx", settings)
    assert exported.card.accuracy == {}
    assert exported.card.speed["fp16_images_per_second"] > 0
    assert "no pictures" in exported.notes[0]


def test_layers_kept_in_float_are_in_the_card(tmp_path, checkpoint, pictures, capsys):
    arguments = ["export", str(checkpoint), "-o", str(tmp_path / "model.onnx")]
    arguments += ["--precision", "int8", "--max-accuracy-drop", "100"]
    arguments += ["--data-dir", str(pictures), "--keep-float"]
    assert main([*arguments, "conv_99"]) == 2
    said = capsys.readouterr().err
    assert "no layer conv_99" in said
    candidates = said.split("the model has ")[1].split(" (see")[0].split(", ")
    assert candidates[0].startswith("conv_")
    assert not (tmp_path / "model.onnx").exists()

    assert main([*arguments, candidates[0], candidates[-1]]) == 0
    assert "proof of fp32, which int8 is made from, against PyTorch" in capsys.readouterr().out
    assert card_of((tmp_path / "model.onnx").read_bytes())["proof"]["precision"] == "fp32"
    model = onnx.load(tmp_path / "model.onnx")
    kept = [node for node in model.graph.node if node.name in {candidates[0], candidates[-1]}]
    sizes = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert [sizes[node.input[1]] for node in kept] == [onnx.TensorProto.FLOAT] * 2
    card = json.loads(model.metadata_props[0].value)
    assert card["provenance"]["kept_in_float"] == sorted([candidates[0], candidates[-1]])


@pytest.mark.parametrize("points", [math.nan, math.inf, -0.1])
def test_an_accuracy_drop_that_is_no_bound_is_refused(points):
    with pytest.raises(UsageError, match=f"--max-accuracy-drop must be.*got {points}"):
        ExportSettings(max_accuracy_drop=points)


def test_layers_in_float_are_for_int8_alone(tmp_path, checkpoint):
    with pytest.raises(UsageError, match="--keep-float is for --precision int8, not fp32"):
        export_checkpoint(
            checkpoint, tmp_path / "model.onnx", ExportSettings(keep_float=("conv_2",))
        )
