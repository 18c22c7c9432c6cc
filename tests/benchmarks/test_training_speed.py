from dataclasses import replace

import pytest

from benchmarks.training_speed import phases, summary, table, time_preset
from tests.training.small import shades, tiny_recipe
from training.loop import Trainer
from training.precision import choose_compute


def test_each_size_of_picture_is_timed_and_counted() -> None:
    recipe = replace(tiny_recipe("fast", epochs=3), progressive=0.6)
    at = phases(recipe)
    assert at == {9: [0, 1], 12: [2]}
    compute = choose_compute("cpu", "fp32")
    trainer = Trainer(recipe, shades(96), shades(0), seed=0, compute=compute)
    assert len(time_preset(trainer, at[12][0], 2)) == 2
    with pytest.raises(ValueError, match="before 5 steps"):
        time_preset(trainer, at[12][0], 5)


def test_the_training_takes_what_its_phases_take() -> None:
    found = summary({24: [1.0, 2.0, 3.0], 32: [4.0]}, {24: 2, 32: 1}, 10)
    assert found["seconds_of_training"] == 2 * 10 * 2 + 10 * 4
    entry = found | {"precision": "bf16", "share": 0.5}
    text = table({"recipes": {"tiny": entry}, "machine": {}, "command": "it"})
    assert "| tiny, bf16 | 24 px | 2.00 (1.00 to 3.00), 3 steps | 2 of 20 s | 80 s, 50% |" in text
    assert "|  | 32 px | 4.00 (4.00 to 4.00), 1 steps | 1 of 40 s |  |" in text
