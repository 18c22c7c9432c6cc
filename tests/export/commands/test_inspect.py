"""`flatfold inspect`: what it prints of files with and without a card."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import onnx
import pytest

from export.assemble import write_card
from flatfold.cli import main
from tests.export.classifiers import finished, planes_model
from tests.export.networks import card
from tests.export.sketch import Sketch


@pytest.fixture
def path(tmp_path):
    model = finished(planes_model())
    write_card(model, replace(card(), architecture="tinynet", accuracy={"test_top1": 0.9}))
    file = tmp_path / "m.onnx"
    onnx.save(model, file)
    return file


def test_everything_as_json(path, capsys):
    assert main(["inspect", str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert facts["bytes"] == path.stat().st_size
    assert facts["batch_norms"] == 0
    assert facts["parameters"] == 6 * 3 * 9 + 6 + 6 * 10 + 10
    assert facts["macs"] == 6 * 3 * 9 * 7 * 7 + 60
    assert facts["card"]["labels"] == list(card().labels)
    assert [layer["operator"] for layer in facts["layers"]].count("Conv") == 1


def test_the_card_the_layers_and_the_hash_for_people(path, capsys):
    assert main(["inspect", str(path)]) == 0
    text = capsys.readouterr().out
    assert "tiny: tinynet, fp32" in text
    assert "accuracy: test_top1 0.9" in text
    assert "6x7x7" in text
    assert f"sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}" in text
    assert "0 batch norms left" in text


def test_a_card_without_an_architecture_shows_none(path, capsys):
    model = onnx.load(path)
    write_card(model, replace(card(), architecture=""))
    onnx.save(model, path)
    assert main(["inspect", str(path)]) == 0
    assert capsys.readouterr().out.startswith("tiny: fp32\n")


def test_a_file_of_someone_else_has_no_card_but_batch_norms(tmp_path, capsys):
    sketch = Sketch()
    x = sketch.conv(sketch.input("batch", 3, 9, 9), 3, 4)
    sketch.output(sketch.batch_norm(x, 4))
    onnx.save(sketch.model(), tmp_path / "m.onnx")
    assert main(["inspect", str(tmp_path / "m.onnx")]) == 0
    text = capsys.readouterr().out
    assert "no card" in text
    assert "1 batch norms left" in text


@pytest.mark.parametrize("content", [b"", b"no model at all", None])
def test_what_is_no_model_gives_one_clear_line(tmp_path, capsys, content):
    file = tmp_path / "m.onnx"
    if content is not None:
        file.write_bytes(content)
    assert main(["inspect", str(file)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("flatfold: error: ")
    assert "m.onnx" in error
    assert error.count("\n") == 1


def test_a_truncated_model_gives_one_clear_line(path, capsys):
    path.write_bytes(path.read_bytes()[:-200])
    assert main(["inspect", str(path)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_broken_card_gives_one_clear_line(path, capsys):
    model = onnx.load(path)
    model.metadata_props[0].value = "{not json"
    onnx.save(model, path)
    assert main(["inspect", str(path)]) == 1
    assert "not JSON" in capsys.readouterr().err


def test_batch_norms_inside_branches_count(tmp_path, capsys):
    inner = Sketch()
    inner.output(inner.batch_norm("x", 3))
    branch = inner.model().graph
    s = Sketch()
    s.input("N", 3, 4, 4)
    s.input(name="which", element=onnx.TensorProto.BOOL)
    s.output(s.op("If", "which", then_branch=branch, else_branch=branch))
    onnx.save(s.model(), tmp_path / "branches.onnx")
    assert main(["inspect", str(tmp_path / "branches.onnx")]) == 0
    assert "2 batch norms left" in capsys.readouterr().out


def test_a_model_that_no_message_can_hold(tmp_path, capsys):
    side = 1 << 15
    s = Sketch()
    s.output(s.op("MatMul", s.input("N", side), "weight"))
    model = onnx.helper.make_model(
        onnx.helper.make_graph(s.nodes, "large", s.inputs, s.outputs),
        opset_imports=[onnx.helper.make_opsetid("", 17)],
        ir_version=8,
    )
    weight = model.graph.initializer.add(name="weight", data_type=1, dims=[side, side])
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="weights.bin")
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with (tmp_path / "weights.bin").open("wb") as file:
        file.truncate(4 * side * side)  # 4 GiB that take no room on the disk
    assert main(["inspect", str(tmp_path / "m.onnx")]) == 0
    assert f"{side * side:,} parameters" in capsys.readouterr().out


def test_a_model_whose_shapes_do_not_fit_is_shown_all_the_same(tmp_path, capsys):
    s = Sketch()
    s.output(s.batch_norm(s.conv(s.input("N", 3, 9, 9), 3, 4), 4))
    model = s.model()
    model.opset_import[0].domain = "my"
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert main(["inspect", str(tmp_path / "m.onnx")]) == 0
    assert "1 batch norms left" in capsys.readouterr().out
