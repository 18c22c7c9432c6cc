from dataclasses import replace
from pathlib import Path

import pytest

from flatfold.contract.errors import UsageError
from training.architecture import NetworkConfig
from training.network import FlatNet
from training.recipe import PRESETS, Recipe, preset

DOCUMENT = Path(__file__).parents[2] / "docs" / "training.md"


@pytest.mark.parametrize("name", PRESETS)
def test_the_documented_network_and_operations_are_the_presets(name: str) -> None:
    recipe = preset(name)
    row = next(line for line in DOCUMENT.read_text().splitlines() if line.startswith(f"| `{name}`"))
    shape = recipe.network.name.removeprefix("flatnet-")
    weights = sum(parameter.numel() for parameter in FlatNet(recipe.network).parameters())
    assert f"| {shape}" in row
    assert f"{recipe.network.multiply_adds / 1e6:.0f} M multiply-adds" in row
    assert f"{weights / 1e6:.1f} M weights" in row
    assert f"| {recipe.epochs} epochs" in row
    assert f"| {recipe.operations(45_000):.1e} |".replace("e+", "e") in row


def test_multiply_adds_are_those_of_the_layers() -> None:
    config = NetworkConfig(widths=(16, 32), depths=(2, 3), image_size=9, classes=4)
    whitening = 8 * 8 * 24 * 3 * 4
    first = 8 * 8 * 9 * 24 * 16 + 4 * 4 * 9 * 16 * 16
    second = 4 * 4 * 9 * 16 * 32 + 2 * (2 * 2 * 9 * 32 * 32)
    assert config.multiply_adds == whitening + first + second + 32 * 4


def test_a_recipe_survives_json_and_lacks_no_new_field() -> None:
    recipe = preset("best")
    saved = recipe.to_dict()
    for field in ("flip", "dirac", "whitening", "progressive"):
        del saved[field]
    del saved["network"]["branches"]
    assert Recipe.from_dict(saved) == recipe


def test_the_first_epochs_see_smaller_pictures() -> None:
    recipe = replace(preset("best"), epochs=5, progressive=0.4)
    assert [recipe.side(epoch) for epoch in range(5)] == [24, 24, 32, 32, 32]
    assert 0.75 < recipe.operations(2000) / replace(recipe, progressive=0).operations(2000) < 0.9
    tiny = replace(recipe, network=NetworkConfig(image_size=10))
    assert tiny.side(0) == 9  # the smallest that three blocks take


@pytest.mark.parametrize("name", PRESETS)
def test_the_last_epoch_sees_whole_pictures(name: str) -> None:
    recipe = replace(preset(name), epochs=1)
    assert recipe.side(0) == 32
    assert replace(recipe, epochs=2, progressive=1).side(1) == 32


def test_an_unknown_preset_is_named_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="fast, standard, best"):
        preset("turbo")
