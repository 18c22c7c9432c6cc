"""Checkpoints: safetensors with their metadata, written atomically. No pickle is ever loaded.

A finished checkpoint holds the network's weights and a card; a training state (`state.py`) holds
what resuming needs besides.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from flatfold.contract.card import Card, CardError
from flatfold.contract.errors import FlatfoldError
from flatfold.contract.files import atomic_path
from training.architecture import NetworkConfig
from training.network import FlatNet

if TYPE_CHECKING:
    from torch import Tensor, nn

FORMAT = "flatfold.checkpoint"
# safetensors writes its metadata in the order of a hash map, another one each time. One entry has
# one order: all of ours lie in it, as JSON with sorted keys, and equal content gives equal bytes.
METADATA_KEY = "flatfold"


class CheckpointError(FlatfoldError):
    """The file is not a checkpoint that this version reads."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained network, ready to be exported or evaluated.

    Attributes:
        network: in eval mode, float32, on the CPU; float (batch, 3, size, size), normalised RGB,
            to logits (batch, classes).
        card: labels, size, mean, std, temperature, accuracy and provenance.
    """

    network: nn.Module
    card: Card


def save(path: str | Path, network: FlatNet, card: Card) -> None:
    """Write `network` and `card` to `path`, with the logit scale multiplied into the head.

    Raises:
        FlatfoldError: the path cannot be written.
    """
    tensors = {
        name: value.detach().cpu().contiguous().clone()
        for name, value in network.state_dict().items()
    }
    tensors["head.weight"] *= network.logit_scale
    config = replace(network.config, logit_scale=1.0)
    metadata = {"format": FORMAT, "network": json.dumps(config.to_dict()), "card": card.to_json()}
    write_tensors(path, tensors, metadata)


def load(path: str | Path) -> Checkpoint:
    """Read a finished checkpoint.

    Raises:
        CheckpointError: missing, not safetensors, truncated, or not a flatfold checkpoint.
    """
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is a safetensors file but not a flatfold checkpoint (format "
            f"{metadata.get('format')!r}); expected one written by `flatfold train`"
        )
    try:
        network = FlatNet(NetworkConfig.from_dict(json.loads(metadata["network"])))
        network.load_state_dict(tensors)
        card = Card.from_json(metadata["card"])
    except (KeyError, TypeError, ValueError, RuntimeError, CardError) as error:
        raise CheckpointError(
            f"{path} does not describe a network of this version: {error}"
        ) from error
    return Checkpoint(network.eval(), card)


def write_tensors(path: str | Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file, whole or not at all, the same bytes for the same content."""
    packed = {METADATA_KEY: json.dumps(metadata, sort_keys=True)}
    with atomic_path(path) as temporary:
        try:
            save_file(tensors, temporary, packed)
        except SafetensorError as error:
            raise FlatfoldError(f"cannot write {path}: {error}") from error


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a safetensors file: its tensors on the CPU, and its metadata.

    Files from before the metadata became one entry are read as well.

    Raises:
        CheckpointError: there is no such file, or it is truncated or something else.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"{path} is not a file; expected a .safetensors checkpoint")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.offset_keys()}
            metadata = dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a whole safetensors file: {error}") from error
    if METADATA_KEY not in metadata:
        return tensors, metadata
    try:
        return tensors, dict(json.loads(metadata[METADATA_KEY]))
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} has metadata that this version does not read: {error}"
        ) from error
