"""The table of precisions says what the measurements say."""

from __future__ import annotations

import numpy as np

from benchmarks.precision import BASELINE, _measure, _report
from export.runtime import optimised_session
from tests.export.classifiers import finished, residual_model
from tests.export.networks import noise

RATES = {BASELINE: [100.0, 50.0, 80.0], "int8": [300.0, 200.0, 160.0]}
RECORDS = [
    {"batch": 1, "round": number, "model": name, "images_per_second": rate}
    for name, rates in RATES.items()
    for number, rate in enumerate(rates)
]


def test_the_ratio_is_taken_round_by_round():
    """Round by round int8 is 3, 4 and 2 times as fast; of the medians it would be 2.5."""
    text = _report({}, RECORDS, dict.fromkeys(RATES, 0.9415), dict.fromkeys(RATES, 5_000_000), 10)
    assert "| 1 | int8 | 200 (160 to 300) | 3.00 (2.00 to 4.00) |" in text
    assert "| int8 | 94.15 % | 5.0 |" in text


def test_every_model_is_measured_in_every_round():
    session = optimised_session(finished(residual_model()))
    records = _measure({"a": session, "b": session}, noise(2), rounds=1)
    assert [record["model"] for record in records] == ["a", "b"]
    assert all(np.isfinite(record["images_per_second"]) for record in records)
    assert {record["batch"] for record in records} == {2}
