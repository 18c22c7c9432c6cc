import pytest

from flatfold.contract.errors import UsageError
from training.architecture import NetworkConfig


def test_config_survives_json_types():
    config = NetworkConfig(widths=(16, 32), depths=(3, 2))
    assert NetworkConfig.from_dict({**config.to_dict(), "widths": [16, 32]}) == config
    assert config.name == "flatnet-16x3-32x2"


def test_pictures_too_small_for_the_blocks_are_refused():
    with pytest.raises(UsageError, match="at least 9"):
        NetworkConfig(image_size=8)
    NetworkConfig(image_size=9)
