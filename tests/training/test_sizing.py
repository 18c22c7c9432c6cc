import numpy as np
import pytest

from tests.training.small import numbered_pictures
from training.data import Pictures
from training.recipe import PRESETS
from training.sizing import fit_recipe


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_stays_as_it_is_for_cifar10(preset: str) -> None:
    assert fit_recipe(PRESETS[preset], numbered_pictures(50_000)) == PRESETS[preset]


def test_a_preset_is_fitted_to_few_pictures_of_another_size() -> None:
    recipe = fit_recipe(PRESETS["best"], numbered_pictures(1_000, classes=3, size=64))
    assert (recipe.network.classes, recipe.network.image_size) == (3, 64)
    assert (recipe.holdout, recipe.batch_size) == (100, 45)
    assert (recipe.translate, recipe.cutout) == (8, 24)
    assert fit_recipe(PRESETS["best"], numbered_pictures(1_000), batch_size=90).batch_size == 90


@pytest.mark.parametrize(("size", "batch"), [(32, 1000), (64, 1000), (128, 250), (2048, 16)])
def test_a_batch_of_large_pictures_is_smaller(size: int, batch: int) -> None:
    labels = np.zeros(50_000, np.int64)
    large = np.broadcast_to(np.uint8(0), (len(labels), size, size, 3))
    pictures = Pictures(large, labels, ("a", "b"))
    assert fit_recipe(PRESETS["fast"], pictures).batch_size == batch
    assert fit_recipe(PRESETS["fast"], pictures, batch_size=900).batch_size == 900


@pytest.mark.parametrize("count", [2, 5, 17, 100])
def test_any_number_of_pictures_fills_a_batch(count: int) -> None:
    recipe = fit_recipe(PRESETS["fast"], numbered_pictures(count))
    assert recipe.holdout >= 1
    assert 1 <= recipe.batch_size <= count - recipe.holdout
