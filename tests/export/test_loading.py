from __future__ import annotations

import numpy as np
import onnx
import pytest

from export import loading
from export.folding import fold_in_place, fold_model
from export.loading import ModelFileError, load_model, open_model, save_model, staged, write_model
from export.tensors import ExternalDataError
from flatfold.contract.errors import FlatfoldError
from tests.export.oracle import feeds, run_onnxruntime, worst_error
from tests.export.sketch import Sketch


def _model() -> onnx.ModelProto:
    s = Sketch()
    s.output(s.batch_norm(s.conv(s.input("N", 8, 6, 6), 8, 16, bias=True), 16))
    return s.model()


@pytest.fixture
def external(tmp_path):
    """A model with its large tensors in weights.bin."""
    path = tmp_path / "model.onnx"
    onnx.save(
        _model(), path, save_as_external_data=True, location="weights.bin", size_threshold=128
    )
    return path


def test_a_file_comes_back_as_it_was(tmp_path):
    model = _model()
    save_model(model, tmp_path / "model.onnx")
    assert load_model(tmp_path / "model.onnx") == model
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


def test_external_data_is_brought_in(external):
    model = load_model(external)
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    inputs = feeds(model)
    assert worst_error(run_onnxruntime(_model(), inputs), run_onnxruntime(model, inputs)) == 0


def test_external_data_stays_outside_until_it_is_folded(external, tmp_path):
    original = load_model(external)
    model, folder = open_model(external)
    report = fold_in_place(model, folder=folder)
    assert len(report.folded) == 1
    target = tmp_path / "out" / "folded.onnx"
    target.parent.mkdir()
    save_model(model, target, folder)
    assert sorted(file.name for file in target.parent.iterdir()) == ["folded.onnx"]
    inputs = feeds(original)
    folded = load_model(target)
    assert worst_error(run_onnxruntime(original, inputs), run_onnxruntime(folded, inputs)) < 1e-5


def test_data_that_was_not_folded_is_copied_from_its_file(external, tmp_path):
    model, folder = open_model(external)
    target = tmp_path / "out" / "same.onnx"
    target.parent.mkdir()
    save_model(model, target, folder)
    assert sorted(file.name for file in target.parent.iterdir()) == ["same.onnx", "same.onnx.data"]
    onnx.checker.check_model(str(target), full_check=True)
    loaded = load_model(target)
    for name in (tensor.name for tensor in loaded.graph.initializer):
        values = [
            onnx.numpy_helper.to_array(tensor)
            for source in (load_model(external), loaded)
            for tensor in source.graph.initializer
            if tensor.name == name
        ]
        np.testing.assert_array_equal(*values)


def test_a_model_can_be_saved_onto_itself(external):
    before = load_model(external)
    model, folder = open_model(external)
    save_model(model, external, folder)
    (external.parent / "weights.bin").unlink()
    inputs = feeds(before)
    after = load_model(external)
    assert worst_error(run_onnxruntime(before, inputs), run_onnxruntime(after, inputs)) == 0


def test_a_model_too_large_for_one_file_gets_a_second(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "MAX_INLINE_BYTES", 4000)
    folded, _ = fold_model(_model())
    untouched = folded.SerializeToString()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save_model(folded, tmp_path / name / "large.onnx")
    assert folded.SerializeToString() == untouched
    for file in ("large.onnx", "large.onnx.data"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert load_model(tmp_path / "a" / "large.onnx") == folded


def test_fold_model_asks_for_the_data(external):
    model, _ = open_model(external)
    with pytest.raises(ExternalDataError, match=r"export\.loading\.load_model"):
        fold_model(model)


def test_not_a_model(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b'{"this": "is JSON"}')
    with pytest.raises(ModelFileError, match="is not an ONNX model"):
        load_model(path)
    path.write_bytes(b"")
    with pytest.raises(ModelFileError, match="no graph"):
        load_model(path)
    with pytest.raises(ModelFileError, match="No such file"):
        load_model(tmp_path / "missing.onnx")
    with pytest.raises(ModelFileError, match="cannot read"):
        load_model(tmp_path)


def test_every_truncation_is_noticed(tmp_path):
    whole = _model().SerializeToString()
    path = tmp_path / "model.onnx"
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelFileError):
            load_model(path)


def test_an_unknown_opset(tmp_path):
    model = _model()
    model.opset_import[0].version = 999
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(ModelFileError, match=r"opset 999; onnx .* knows 1 to \d+: update onnx"):
        load_model(tmp_path / "model.onnx")


def test_missing_external_data(external):
    (external.parent / "weights.bin").unlink()
    with pytest.raises(ExternalDataError, match=r"'weights\.bin' is missing"):
        load_model(external)


def test_external_data_cut_short(external):
    data = external.parent / "weights.bin"
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(ExternalDataError, match=r"cut short: tensor .* the file has 100"):
        load_model(external)


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/passwd", ""])
def test_external_data_outside_the_folder(external, location):
    model = onnx.load(external, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    external.write_bytes(model.SerializeToString())
    with pytest.raises(ExternalDataError, match="outside the model's folder"):
        load_model(external)


def test_an_output_that_cannot_be_written(tmp_path):
    with pytest.raises(FlatfoldError, match=r"cannot write .*: there is no folder .*missing"):
        save_model(_model(), tmp_path / "missing" / "model.onnx")


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"the old one")
    failure = RuntimeError("the proof failed")
    with pytest.raises(RuntimeError, match="the proof failed"), staged(path) as stage:
        write_model(_model(), stage)
        raise failure
    assert path.read_bytes() == b"the old one"
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
