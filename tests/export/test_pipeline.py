from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import onnx

from flatfold.contract.card import CARD_KEY
from tests.export.networks import BATCH_NORMS, write_checkpoint


def export(checkpoint, folder, seed: str) -> bytes:
    """Export a copy of `checkpoint` in `folder`, in a process of its own."""
    folder.mkdir()
    shutil.copyfile(checkpoint, folder / "checkpoint.safetensors")
    command = [sys.executable, "-m", "flatfold", "export", "checkpoint.safetensors"]
    environment = os.environ | {"PYTHONHASHSEED": seed}
    subprocess.run(
        [*command, "-o", "model.onnx"], cwd=folder, env=environment, check=True, timeout=240
    )
    return (folder / "model.onnx").read_bytes()


def test_two_exports_in_two_folders_are_the_same_bytes(tmp_path):
    checkpoint = write_checkpoint(tmp_path / "checkpoint.safetensors")
    first = export(checkpoint, tmp_path / "here", "1")
    assert first == export(checkpoint, tmp_path / "over there", "2")
    assert str(tmp_path).encode() not in first
    assert b"site-packages" not in first
    model = onnx.load_from_string(first)
    assert all(not node.metadata_props and not node.doc_string for node in model.graph.node)
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    assert [value.name for value in model.graph.output] == ["logits", "probabilities"]
    card = json.loads(model.metadata_props[0].value)
    assert model.metadata_props[0].key == CARD_KEY
    assert card["proof"]["batch_norms_folded"] == BATCH_NORMS
