"""What a model file says of itself: its tensors and its card, and whether the two fit."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from flatfold.contract.card import CARD_KEY, Card, CardError
from flatfold.contract.errors import FlatfoldError
from service.scores import find_scores
from service.tensors import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import onnxruntime


class ModelError(FlatfoldError):
    """This file cannot be served: unreadable, broken, or not what its card says."""


def read_tensors(nodes: Sequence[Any], path: Path) -> tuple[TensorSpec, ...]:
    """Return the inputs or outputs that onnxruntime describes by `nodes`.

    Raises:
        ModelError: one is a sequence, a map, or of a type that the protocol lacks.
    """
    specs = []
    for node in nodes:
        spec = TensorSpec.from_onnx(node.name, node.type, node.shape)
        if spec is None:
            raise ModelError(
                f"{path}: {node.name!r} is a {node.type}, which the protocol cannot carry; "
                "export the model so that its inputs and outputs are plain tensors"
            )
        specs.append(spec)
    return tuple(specs)


def read_card(session: onnxruntime.InferenceSession, path: Path) -> Card | None:
    """Return the card inside the file, or None.

    Raises:
        ModelError: the card is not one that this version reads.
    """
    text = session.get_modelmeta().custom_metadata_map.get(CARD_KEY)
    if text is None:
        return None
    try:
        card = Card.from_json(text)
        # A class's folder need not be UTF-8: what no answer can hold becomes a question mark.
        plain = json.dumps(asdict(card), ensure_ascii=False).encode(errors="replace")
        return Card.from_json(plain.decode())
    except CardError as error:
        raise ModelError(f"{path}: {error}") from error


def check_card(
    card: Card, path: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> str:
    """Check that the graph takes pictures of the card's size and scores the card's labels.

    Returns:
        The name of the output that holds the scores.

    Raises:
        ModelError: it does not.
    """
    wanted = (1, card.height, card.width, 3)
    if len(inputs) != 1 or not (inputs[0].datatype == "UINT8" and inputs[0].accepts(wanted)):
        raise ModelError(
            f"{path}: its card (or --labels and --image-size) promises one input "
            f"UINT8 [-1, {card.height}, {card.width}, 3], pixels as they are; the graph has "
            f"{', '.join(map(str, inputs))}"
        )
    scores = find_scores(outputs, len(card.labels))
    if scores is None:
        raise ModelError(
            f"{path}: its card (or --labels) names {len(card.labels)} labels; no output has that "
            f"many columns: {', '.join(map(str, outputs))}"
        )
    return scores
