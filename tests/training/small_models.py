"""One small random network as both kinds of model file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from flatfold.contract.card import CARD_KEY, Card
from training import checkpoint
from training.architecture import NetworkConfig
from training.initialisation import initialise
from training.network import FlatNet

if TYPE_CHECKING:
    from pathlib import Path

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)


def small_card(labels: tuple[str, ...] = ("grass", "rose"), size: int = 16) -> Card:
    return Card(
        name="small", labels=labels, height=size, width=size, temperature=2.0, mean=MEAN, std=STD
    )


def write_checkpoint(path: Path, card: Card) -> FlatNet:
    """Write a random network; return it, in eval mode."""
    shape = NetworkConfig(
        widths=(16, 16, 16), classes=len(card.labels), image_size=card.height, logit_scale=1.0
    )
    network = FlatNet(shape)
    initialise(network, torch.Generator().manual_seed(0))
    checkpoint.save(path, network, card)
    return network.eval()


def write_onnx(path: Path, card: Card, *, with_card: bool = True) -> np.ndarray:
    """Write a linear classifier with the contract's input and outputs; return its weights."""
    values = card.height * card.width * 3
    weights = np.random.default_rng(0).normal(0, 1e-3, (values, len(card.labels)))
    weights = weights.astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["floats"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    shape = ["batch", card.height, card.width, 3]
    scores = ["batch", len(card.labels)]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, shape)],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, scores)
            for name in ("logits", "probabilities")
        ],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if with_card:
        helper.set_model_props(model, {CARD_KEY: card.to_json()})
    onnx.save(model, path)
    return weights
