"""A cheaper precision is written only where it keeps its accuracy."""

from __future__ import annotations

import pytest

from export.precision import choose
from export.precision.choose import AccuracyError, accuracy, convert
from export.runtime import run, unoptimised_session
from tests.export.classifiers import finished, residual_model
from tests.export.networks import labelled, noise

MODEL = finished(residual_model())


def _right(count, seed):
    """Pictures whose labels are what the fp32 model says: it is right on every one."""
    images = noise(count, seed=seed)
    return labelled(images, run(unoptimised_session(MODEL), {"images": images})[0].argmax(1))


TRAIN, TEST = _right(64, 1), _right(250, 2)  # 250: the last batch is not full


def test_accuracy_is_the_share_of_right_answers():
    assert accuracy(MODEL, TEST) == 1
    wrong = TEST.labels.copy()
    wrong[:50] = (wrong[:50] + 1) % 10
    assert accuracy(MODEL, labelled(TEST.images, wrong)) == pytest.approx(0.8)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_what_is_measured_is_told(precision):
    chosen = convert(MODEL, precision, (TRAIN, TEST), 100)
    measured = accuracy(chosen.model, TEST)
    assert chosen.accuracy == {"fp32": 1, precision: measured}
    assert measured > 0.8


def test_the_gate_refuses_a_loss_past_the_limit(monkeypatch):
    """A quantisation that has lost its way: every weight is 0."""

    def broken(model, *arguments, **settings):
        half = choose.halve(model)
        for tensor in half.graph.initializer:
            tensor.raw_data = bytes(len(tensor.raw_data))
        return half

    monkeypatch.setattr(choose, "quantise", broken)
    monkeypatch.setattr(choose, "check_integer", lambda model, *rest, **settings: None)
    with pytest.raises(AccuracyError, match=r"int8 loses \d+\.\d+ points on 250 .* at most 0\.3"):
        convert(MODEL, "int8", (TRAIN, TEST), 0.3)


def test_the_limit_is_in_points_of_a_hundred(monkeypatch):
    """Three wrong of 250 are 1.2 points: too many at 1, fine at 1.3."""
    answers = iter([1.0, 0.988] * 2)
    monkeypatch.setattr(choose, "accuracy", lambda *arguments: next(answers))
    with pytest.raises(AccuracyError, match=r"1\.20 points"):
        convert(MODEL, "fp16", (TRAIN, TEST), 1)
    assert convert(MODEL, "fp16", (TRAIN, TEST), 1.3).accuracy["fp16"] == 0.988
