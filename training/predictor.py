"""One way to ask any model for its logits: a checkpoint or an .onnx file, uint8 pictures in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flatfold.contract.card import CARD_KEY, INPUT_NAME, LOGITS_NAME, PROBABILITIES_NAME, Card
from flatfold.contract.errors import FlatfoldError, UsageError
from training.metrics import softmax

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import torch
    from numpy.typing import NDArray
    from onnxruntime import InferenceSession
    from torch import nn

    Floats = NDArray[np.floating[Any]]


class ModelError(FlatfoldError):
    """The file is not a model that can be evaluated."""


@dataclass(frozen=True)
class Predictor:
    """A model that answers for batches of pictures.

    Attributes:
        card: what the model says of itself.
        predict: uint8 (n, height, width, 3) to logits (n, classes) and calibrated probabilities
            (n, classes).
    """

    card: Card
    predict: Callable[[NDArray[np.uint8]], tuple[Floats, Floats]]


def load_predictor(path: str | Path, device: str = "auto") -> Predictor:
    """Load a .safetensors checkpoint or an .onnx file, told apart by their suffix.

    Args:
        path: the file.
        device: where a checkpoint computes: auto, cpu, cuda or cuda:N. An .onnx runs on the CPU.

    Raises:
        FlatfoldError: no such file, another kind of file, or a broken one; or another device
            than the CPU for an .onnx.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path} is not a file; expected a .safetensors checkpoint or an .onnx")
    if path.suffix == ".onnx":
        if device not in ("auto", "cpu"):
            raise UsageError(f"--device {device} is for checkpoints; an .onnx file runs on the CPU")
        return _from_onnx(path)
    if path.suffix == ".safetensors":
        return _from_checkpoint(path, device)
    raise ModelError(f"{path} is neither .safetensors nor .onnx")


def network_predictor(network: nn.Module, card: Card, device: torch.device) -> Predictor:
    """Return a predictor that asks `network`, on `device` and in eval mode, in float32."""
    import torch  # noqa: PLC0415 # an .onnx file is evaluated without torch

    from training.augment import normalise  # noqa: PLC0415 # as above

    def predict(images: NDArray[np.uint8]) -> tuple[Floats, Floats]:
        with torch.inference_mode():
            batch = normalise(torch.from_numpy(images).to(device), card.mean, card.std)
            logits = network(batch).float().cpu().numpy()
        return logits, softmax(logits, card.temperature)

    return Predictor(card, predict)


def _from_checkpoint(path: Path, device: str) -> Predictor:
    from training.checkpoint import load  # noqa: PLC0415 # it imports torch
    from training.network import place  # noqa: PLC0415 # as above
    from training.precision import choose_device  # noqa: PLC0415 # as above

    chosen = choose_device(device)
    checkpoint = load(path)
    place(checkpoint.network, chosen)
    return network_predictor(checkpoint.network, checkpoint.card, chosen)


def _check_interface(path: Path, session: InferenceSession, card: Card) -> None:
    """Raise a ModelError where the graph is not the one that its card speaks of."""
    inputs = [entry.name for entry in session.get_inputs()]
    outputs = {entry.name: entry.shape for entry in session.get_outputs()}
    if inputs != [INPUT_NAME] or not {LOGITS_NAME, PROBABILITIES_NAME} <= outputs.keys():
        raise ModelError(
            f"{path} has the inputs {', '.join(inputs)} and the outputs {', '.join(outputs)}; "
            f"expected {INPUT_NAME}, {LOGITS_NAME} and {PROBABILITIES_NAME}"
        )
    classes = outputs[LOGITS_NAME][-1]
    if isinstance(classes, int) and classes != len(card.labels):
        raise ModelError(f"{path} answers for {classes} classes, its card has {len(card.labels)}")


def _from_onnx(path: Path) -> Predictor:
    import onnxruntime  # noqa: PLC0415 # a checkpoint is evaluated without onnxruntime

    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base of their own
        raise ModelError(f"{path} is not a model that onnxruntime loads: {error}") from error
    metadata = session.get_modelmeta().custom_metadata_map
    if CARD_KEY not in metadata:
        raise ModelError(
            f"{path} has no {CARD_KEY} in its metadata; expected a file written by flatfold export"
        )
    card = Card.from_json(metadata[CARD_KEY])
    _check_interface(path, session, card)

    def predict(images: NDArray[np.uint8]) -> tuple[Floats, Floats]:
        logits, probabilities = session.run([LOGITS_NAME, PROBABILITIES_NAME], {INPUT_NAME: images})
        return logits, probabilities

    return Predictor(card, predict)
