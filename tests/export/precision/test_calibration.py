"""The range of a quantised activation."""

from __future__ import annotations

import numpy as np
import pytest

from export.precision.calibration import LEVELS, SCALE_BITS, Activation, calibrate, choose_range
from export.runtime import run, unoptimised_session
from tests.export.classifiers import finished, residual_model
from tests.export.networks import noise


def _histogram(values, bins=2048):
    low, high = min(0.0, values.min()), max(0.0, values.max())
    return np.histogram(values, bins, (low, high))[0], low, high


def _error(storage, values):
    stored = np.clip(np.rint(values / storage.scale) + storage.zero_point, 0, LEVELS)
    return float((((stored - storage.zero_point) * storage.scale - values) ** 2).mean())


def test_zero_is_stored_exactly():
    """Padding adds zeros: a zero that is off by half a step would put a frame around pictures."""
    for values in (np.linspace(-1, 3, 1000), np.linspace(0, 5, 1000), np.linspace(-4, 0, 1000)):
        storage = choose_range(*_histogram(values))
        assert 0 <= storage.zero_point <= LEVELS
        assert _error(storage, np.zeros(1)) == 0


def test_what_is_never_negative_gets_all_codes():
    values = np.random.default_rng(0).uniform(0, 6, 10_000)
    storage = choose_range(*_histogram(values))
    assert storage.zero_point == 0
    assert storage.scale == pytest.approx(6 / LEVELS, rel=0.01)


def test_a_far_outlier_is_clipped_where_that_loses_less():
    values = np.random.default_rng(0).normal(0, 1, 100_000)
    values[0] = 12.0
    storage = choose_range(*_histogram(values))
    assert storage.scale * (LEVELS - storage.zero_point) < 11
    scale = (12 - values.min()) / LEVELS
    whole = Activation(scale, round(-values.min() / scale))
    assert _error(storage, values) < _error(whole, values)


def test_a_tensor_that_is_always_zero_has_a_scale_still():
    assert choose_range(np.zeros(8, np.int64), 0.0, 0.0).scale > 0


def test_the_last_bits_of_a_range_do_not_reach_the_file():
    counts, low, high = _histogram(np.random.default_rng(0).uniform(0, 1, 1000))
    storage = choose_range(counts, low, high)
    assert storage == choose_range(counts, low, high * (1 + 1e-9))
    mantissa, _ = np.frexp(storage.scale)
    assert float(mantissa * 2**SCALE_BITS).is_integer()


def test_every_picture_counts_whatever_the_batches():
    model, pictures = finished(residual_model()), noise(70)
    name = model.graph.node[2].output[0]
    pictures[-1] = 255  # alone in the last batch
    seen = calibrate(model, [name], pictures)[name]
    wanted = max(_largest(model, name, pictures[start : start + 10]) for start in range(0, 70, 10))
    assert seen.scale * (LEVELS - seen.zero_point) > 0.29 * wanted


def _largest(model, name, pictures):
    watched = type(model)()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.add(name=name).type.tensor_type.elem_type = 1
    return float(run(unoptimised_session(watched), {"images": pictures})[0].max())
