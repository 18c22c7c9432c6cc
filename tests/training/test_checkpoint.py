import json

import pytest
import torch
from safetensors.torch import save_file

from flatfold.contract.card import Card
from training import checkpoint
from training.checkpoint import CheckpointError
from training.initialisation import initialise
from training.network import FlatNet

from .small import TINY

CARD = Card(name="tiny", labels=tuple("abcdefghij"), height=12, width=12)


@pytest.fixture
def network():
    made = FlatNet(TINY)
    initialise(made, torch.Generator().manual_seed(0))
    return made.eval()


def test_reads_back_the_same_function_and_card(tmp_path, network):
    checkpoint.save(tmp_path / "model.safetensors", network, CARD)
    loaded = checkpoint.load(tmp_path / "model.safetensors")
    x = torch.rand(3, 3, 12, 12)
    assert loaded.card == CARD
    assert not loaded.network.training
    assert torch.allclose(loaded.network(x), network(x), rtol=1e-5)


def test_the_logit_scale_is_gone_from_the_file(tmp_path, network):
    checkpoint.save(tmp_path / "model.safetensors", network, CARD)
    assert checkpoint.load(tmp_path / "model.safetensors").network.logit_scale == 1


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="nothing"):
        checkpoint.load(tmp_path / "nothing.safetensors")


def test_a_truncated_file_is_told(tmp_path, network):
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, network, CARD)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="whole safetensors"):
        checkpoint.load(path)


def test_a_pickle_is_refused(tmp_path):
    torch.save({"weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="whole safetensors"):
        checkpoint.load(tmp_path / "model.safetensors")


def test_other_safetensors_are_refused(tmp_path):
    save_file({"weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="not a flatfold checkpoint"):
        checkpoint.load(tmp_path / "other.safetensors")


def test_a_foreign_network_description_is_refused(tmp_path, network):
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, network, CARD)
    tensors, metadata = checkpoint.read_tensors(path)
    checkpoint.write_tensors(path, tensors, {**metadata, "network": '{"depth": 7}'})
    with pytest.raises(CheckpointError, match="does not describe"):
        checkpoint.load(path)


def test_equal_content_gives_equal_bytes(tmp_path):
    """safetensors alone writes its metadata in another order each time: here one of 8! is right."""
    tensors, metadata = {"weight": torch.zeros(2)}, {letter: letter for letter in "abcdefgh"}
    turned = dict(reversed(metadata.items()))
    checkpoint.write_tensors(tmp_path / "first", tensors, metadata)
    checkpoint.write_tensors(tmp_path / "second", tensors, turned)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
    assert checkpoint.read_tensors(tmp_path / "first")[1] == metadata


def test_a_checkpoint_of_the_first_layout_still_loads(tmp_path, network):
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, network, CARD)
    tensors, metadata = checkpoint.read_tensors(path)
    save_file(tensors, path, metadata)  # one entry each, as it was
    loaded = checkpoint.load(path)
    assert loaded.card == CARD
    assert torch.equal(loaded.network.state_dict()["head.weight"], tensors["head.weight"])


@pytest.mark.parametrize("text", ["{", "3", json.dumps(["a"])])
def test_broken_metadata_is_told(tmp_path, text):
    path = tmp_path / "model.safetensors"
    save_file({"weight": torch.zeros(1)}, path, {checkpoint.METADATA_KEY: text})
    with pytest.raises(CheckpointError, match="metadata that this version"):
        checkpoint.load(path)
