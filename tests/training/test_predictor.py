from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import torch

from flatfold.contract.card import CARD_KEY
from flatfold.contract.errors import UsageError
from tests.training.small_models import MEAN, STD, small_card, write_checkpoint, write_onnx
from training.metrics import softmax
from training.predictor import ModelError, load_predictor

if TYPE_CHECKING:
    from pathlib import Path

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)


def test_a_checkpoint_is_normalised_and_its_probabilities_tempered(tmp_path: Path) -> None:
    network = write_checkpoint(tmp_path / "model.safetensors", small_card())
    predictor = load_predictor(tmp_path / "model.safetensors", "cpu")
    logits, probabilities = predictor.predict(IMAGES)

    normalised = (IMAGES.astype(np.float64) / 255 - MEAN) / STD
    batch = torch.from_numpy(normalised).float().permute(0, 3, 1, 2)
    expected = network(batch).detach().numpy()
    assert logits == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert probabilities == pytest.approx(softmax(logits / 2.0))
    assert predictor.card == small_card()


def test_an_onnx_file_answers_from_its_own_outputs(tmp_path: Path) -> None:
    weights = write_onnx(tmp_path / "model.onnx", small_card())
    logits, probabilities = load_predictor(tmp_path / "model.onnx").predict(IMAGES)
    assert logits == pytest.approx(IMAGES.reshape(5, -1) @ weights, rel=1e-3, abs=1e-4)
    assert probabilities == pytest.approx(softmax(logits), rel=1e-4)


def test_an_onnx_file_on_a_gpu_is_told_and_not_run_on_the_cpu_in_silence(tmp_path: Path) -> None:
    write_onnx(tmp_path / "model.onnx", small_card())
    with pytest.raises(UsageError, match="--device cuda:1 is for checkpoints"):
        load_predictor(tmp_path / "model.onnx", "cuda:1")


def test_wrong_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"missing\.onnx is not a file"):
        load_predictor(tmp_path / "missing.onnx")
    (tmp_path / "notes.txt").write_text("a note")
    with pytest.raises(ModelError, match=r"neither \.safetensors nor \.onnx"):
        load_predictor(tmp_path / "notes.txt")
    (tmp_path / "torn.onnx").write_bytes(b"\x08\x09")
    with pytest.raises(ModelError, match=r"torn\.onnx is not a model"):
        load_predictor(tmp_path / "torn.onnx")
    write_onnx(tmp_path / "foreign.onnx", small_card(), with_card=False)
    with pytest.raises(ModelError, match=r"foreign\.onnx has no flatfold\.card"):
        load_predictor(tmp_path / "foreign.onnx")


def test_a_graph_that_is_not_its_cards_is_told(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write_onnx(path, small_card())
    model = onnx.load(path)
    card = next(entry for entry in model.metadata_props if entry.key == CARD_KEY)
    card.value = small_card(("a", "b", "c")).to_json()
    onnx.save(model, path)
    with pytest.raises(ModelError, match="answers for 2 classes, its card has 3"):
        load_predictor(path)
    model.graph.input[0].name = model.graph.node[0].input[0] = "pixels"
    onnx.save(model, path)
    with pytest.raises(ModelError, match=r"has the inputs pixels and .*; expected images, logits"):
        load_predictor(path)
