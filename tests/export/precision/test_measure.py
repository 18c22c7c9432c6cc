"""Every precision is measured that can be made, and what cannot is told."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from export.precision import choose
from export.precision import measure as measuring
from export.precision.choose import accuracy, make_int8
from export.precision.measure import BASELINE, measure, measure_speed
from tests.export.classifiers import finished, residual_model
from tests.export.networks import labelled, noise

MODEL = finished(residual_model())
PICTURES = (labelled(noise(64, seed=1), np.zeros(64)), labelled(noise(50), np.arange(50) % 10))
ALL = {"fp32", "fp16", "int8"}


def test_each_precision_has_its_accuracy_and_its_speed_beside_the_unfolded():
    found = measure({"fp32": MODEL}, MODEL, PICTURES, {})
    assert found.notes == ()
    assert found.accuracy.keys() == ALL
    assert found.accuracy["fp32"] == accuracy(MODEL, PICTURES[1])
    assert found.accuracy["int8"] == accuracy(make_int8(MODEL, PICTURES[0]), PICTURES[1])
    assert {f"{name}_images_per_second" for name in {*ALL, BASELINE}} <= found.speed.keys()


def test_what_was_made_and_measured_already_is_taken_as_it_is():
    """The file that is written is the one that was measured: a gate has looked at it."""
    nan = onnx.ModelProto()
    nan.CopyFrom(MODEL)
    found = measure({"fp32": MODEL, "int8": nan}, MODEL, PICTURES, {"fp32": 0.5, "int8": 0.25})
    assert (found.accuracy["fp32"], found.accuracy["int8"]) == (0.5, 0.25)


def test_without_pictures_the_speed_of_what_needs_none_is_measured():
    found = measure({"fp32": MODEL}, MODEL, None, {})
    assert found.accuracy == {}
    assert "int8_images_per_second" not in found.speed
    assert "fp16_images_per_second" in found.speed
    assert "no pictures" in found.notes[0]


def test_a_precision_that_cannot_be_made_is_told_and_the_others_are_measured(monkeypatch):
    def refuse(*arguments, **settings):
        raise choose.AccuracyError("its weights are too large")

    monkeypatch.setattr(choose, "quantise", refuse)
    monkeypatch.setattr(measuring, "halve", refuse)
    found = measure({"fp32": MODEL}, MODEL, PICTURES, {})
    assert found.accuracy.keys() == {"fp32"}
    assert found.notes == (
        "fp16 was not measured: its weights are too large",
        "int8 was not measured: its weights are too large",
    )


def test_speed_is_told_with_its_spread_the_machine_and_the_versions():
    speed = measure_speed({"int8": MODEL})
    low, high = speed["int8_images_per_second_range"]
    assert 0 < low <= speed["int8_images_per_second"] <= high
    assert {"cpu", "onnxruntime", "threads", "batch", "rounds"} <= speed.keys()
    assert (speed["threads"], speed["batch"]) == (1, 1)


@pytest.mark.parametrize("name", sorted(ALL))
def test_measuring_leaves_the_models_as_they_were(name):
    before = MODEL.SerializeToString()
    measure_speed({name: MODEL})
    assert MODEL.SerializeToString() == before
