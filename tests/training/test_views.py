from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from training.views import weighted_views

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 6, 5, 3), np.uint8)
WEIGHTS = np.random.default_rng(1).normal(size=(6 * 5 * 3, 4))


def predict(images: np.ndarray) -> np.ndarray:
    assert images.dtype == np.uint8
    assert images.shape == IMAGES.shape
    return images.reshape(len(images), -1).astype(np.float64) @ WEIGHTS


def test_weights_sum_to_one_over_six_views() -> None:
    views = list(weighted_views(IMAGES))
    assert [weight for weight, _ in views] == [0.25, 0.25, 0.125, 0.125, 0.125, 0.125]
    assert np.array_equal(views[0][1], IMAGES)
    assert np.array_equal(views[1][1], IMAGES[:, :, ::-1])


def test_equals_the_definition_in_torch() -> None:
    tensor = torch.from_numpy(IMAGES).permute(0, 3, 1, 2).double()
    padded = functional.pad(tensor, (1, 1, 1, 1), mode="reflect")

    def mirrored(view: torch.Tensor) -> np.ndarray:
        both = (view, view.flip(3))
        return np.mean([predict(v.byte().permute(0, 2, 3, 1).numpy()) for v in both], axis=0)

    shifted = [mirrored(padded[:, :, :6, :5]), mirrored(padded[:, :, 2:, 2:])]
    expected = 0.5 * mirrored(tensor) + 0.5 * np.mean(shifted, axis=0)
    average = sum(weight * predict(view) for weight, view in weighted_views(IMAGES))
    assert average == pytest.approx(expected, rel=1e-12)
