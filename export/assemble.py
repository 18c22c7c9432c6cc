"""From a network and its card to one self-contained ONNX model, batch norms folded.

The steps, in order: trace, simplify, fold, preprocessing in front, temperature and softmax behind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx

from export.folding import fold_model
from export.preprocess import add_back, add_front
from export.simplify import relu_before_pool, rename, simplify
from export.trace import trace
from flatfold.contract.card import CARD_KEY

if TYPE_CHECKING:
    import torch

    from export.report import FoldReport
    from flatfold.contract.card import Card


@dataclass(frozen=True)
class Assembled:
    """An exported model and how it came about.

    Attributes:
        model: uint8 `images` (batch, height, width, 3) to logits and probabilities; no card.
        unfolded: the same before folding, for comparisons.
        report: the verdict on every batch norm.
    """

    model: onnx.ModelProto
    unfolded: onnx.ModelProto
    report: FoldReport


def assemble(network: torch.nn.Module, card: Card) -> Assembled:
    """Export `network`, fold it and put preprocessing and probabilities inside.

    Args:
        network: in eval mode; float32 (batch, 3, height, width), normalised, to logits.
        card: sizes, normalisation and temperature.

    Raises:
        TraceError: torch cannot export the network.
        FoldRefusedError: a batch norm has broken parameters.
    """
    traced = trace(network, card.height, card.width)
    simplify(traced)
    folded, report = fold_model(traced)
    relu_before_pool(folded)
    return Assembled(_finish(folded, card), _finish(traced, card), report)


def _finish(body: onnx.ModelProto, card: Card) -> onnx.ModelProto:
    model = onnx.ModelProto()
    model.CopyFrom(body)
    add_front(model, card)
    add_back(model, card)
    rename(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def write_card(model: onnx.ModelProto, card: Card) -> None:
    """Make `card` the model's only metadata, in place."""
    del model.metadata_props[:]
    model.metadata_props.add(key=CARD_KEY, value=card.to_json())
