"""The export's proof against PyTorch: it passes what is right and stops what is not."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from export import pipeline
from export.assemble import assemble
from export.comparison import ProofError
from export.parity import check_parity
from export.pipeline import ExportSettings, export_checkpoint
from tests.export.networks import BATCH_NORMS, card, network, noise, write_checkpoint


@pytest.fixture(scope="module")
def assembled():
    return assemble(network(), card())


def _tampered(model, change):
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    tensor = [t for t in changed.graph.initializer if len(t.dims) == 4][1]
    values = numpy_helper.to_array(tensor).copy()
    change(values)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return changed


def test_every_batch_norm_is_gone_and_the_proof_holds(assembled):
    assert len(assembled.report.folded) == BATCH_NORMS
    assert "BatchNormalization" not in {node.op_type for node in assembled.model.graph.node}
    proof = check_parity(network(), assembled.model, card(), images=noise(10))
    assert (proof.holds, proof.images, proof.top1_agreement) == (True, 10, 1)


def test_one_filter_off_by_a_thousandth_is_stopped(assembled):
    def change(values):
        values[0] *= 1.001

    with pytest.raises(ProofError, match="computes something else") as caught:
        check_parity(network(), _tampered(assembled.model, change), card())
    assert caught.value.proof is not None


def test_another_normalisation_than_the_cards_is_stopped(assembled):
    other = type(card())(**{**vars(card()), "mean": (0.5, 0.4, 0.31)})
    with pytest.raises(ProofError):
        check_parity(network(), assembled.model, other)


def test_a_failed_proof_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, assembled):
    broken = _tampered(assembled.model, lambda values: np.negative(values, out=values))
    wrong = type(assembled)(broken, assembled.unfolded, assembled.report)
    monkeypatch.setattr(pipeline, "assemble", lambda *arguments: wrong)
    folder = tmp_path / "out"
    folder.mkdir()
    output = folder / "m.onnx"
    output.write_bytes(b"the old one")
    checkpoint = write_checkpoint(tmp_path / "c.safetensors")
    with pytest.raises(ProofError):
        export_checkpoint(checkpoint, output, ExportSettings())
    assert output.read_bytes() == b"the old one"
    assert [path.name for path in folder.iterdir()] == ["m.onnx"]
