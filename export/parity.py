"""Compare an exported model with the PyTorch network that it came from, pixels to probabilities.

The reference is the network in float64. The network in float32 shows how much of a difference is
plain rounding.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import torch

from export.comparison import Proof, ProofError, compare
from export.proof import TOLERANCES
from export.runtime import run, unoptimised_session
from flatfold.contract.card import INPUT_NAME, LOGITS_NAME, PROBABILITIES_NAME

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    from flatfold.contract.card import Card

RANDOM_IMAGES = 64


def check_parity(
    network: torch.nn.Module,
    model: onnx.ModelProto,
    card: Card,
    *,
    images: NDArray[np.uint8] | None = None,
    tolerance: float = TOLERANCES["float32"],
) -> Proof:
    """Run both on random pixels and on `images`, and compare logits and probabilities.

    Args:
        network: in eval mode, float32, on the CPU.
        model: uint8 (batch, height, width, 3) in, logits and probabilities out.
        card: normalisation and temperature, which the network itself does not apply.
        images: real pictures, uint8 (n, height, width, 3).
        tolerance: largest error in parts of the channel's RMS.

    Raises:
        ProofError: they differ by more than the tolerance.
    """
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (RANDOM_IMAGES, card.height, card.width, 3), dtype=np.uint8)
    if images is not None:
        pixels = np.concatenate([pixels, images])
    outputs = run(unoptimised_session(model), {INPUT_NAME: pixels})
    proof = compare(
        _torch_outputs(copy.deepcopy(network).double(), pixels, card, torch.float64),
        dict(zip((LOGITS_NAME, PROBABILITIES_NAME), outputs, strict=True)),
        tolerance=tolerance,
        images=0 if images is None else len(images),
        noise=[_torch_outputs(network, pixels, card, torch.float32)],
    )
    if not proof.holds:
        raise ProofError(f"the export computes something else: {proof.summary()}", proof)
    return proof


def _torch_outputs(
    network: torch.nn.Module, pixels: NDArray[np.uint8], card: Card, dtype: torch.dtype
) -> dict[str, NDArray[np.floating]]:
    """Return what the network says of uint8 (n, height, width, 3) pixels, computed in `dtype`."""
    mean, std = (
        torch.tensor(value, dtype=dtype).reshape(1, 3, 1, 1) for value in (card.mean, card.std)
    )
    planes = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(dtype) / 255
    with torch.inference_mode():
        logits = network((planes - mean) / std) / card.temperature
        probabilities = logits.softmax(dim=1)
    return {LOGITS_NAME: logits.numpy(), PROBABILITIES_NAME: probabilities.numpy()}
