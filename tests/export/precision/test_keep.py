"""Layers left in float: exactly those that were named, and nothing else around them."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from export.precision.audit import AuditError, audit, check_integer
from export.precision.int8 import quantise
from export.runtime import optimised_session, run
from export.simplify import rename
from flatfold.contract.errors import UsageError
from tests.export.classifiers import finished, residual_model
from tests.export.networks import noise

PICTURES = noise(32)
LAYERS = ("conv_2", "conv_4", "add_5", "gemm_10")


def _model():
    model = finished(residual_model())
    rename(model)
    return model


MODEL = _model()


@pytest.mark.parametrize(
    "kept", [names for count in range(1, 5) for names in combinations(LAYERS, count)]
)
def test_the_named_layers_run_in_float_and_all_others_in_integers(kept):
    found = check_integer(quantise(MODEL, PICTURES, keep_float=kept), kept)
    assert set(found.in_integers) == set(LAYERS) - set(kept)


def test_nothing_is_quantised_between_two_layers_in_float():
    """conv_2 hands its floats to conv_4; the addition alone reads the first one's bytes."""
    quantised = quantise(MODEL, PICTURES, keep_float=["conv_2", "conv_4"])
    conv = next(node for node in quantised.graph.node if node.name == "conv_4")
    assert conv.input[0] == "relu_3"
    alone = quantise(MODEL, PICTURES, keep_float=["conv_4"])
    conv = next(node for node in alone.graph.node if node.name == "conv_4")
    assert conv.input[0] == "relu_3.dequantised"


def test_only_what_stands_between_float_and_integers_is_converted():
    """In: the bytes of conv_2. Out: those that the addition reads. The rest is as it was."""
    before = audit(quantise(MODEL, PICTURES)).operators
    after = audit(quantise(MODEL, PICTURES, keep_float=["conv_4"])).operators
    assert after["QuantizeLinear"] - before["QuantizeLinear"] == 1
    assert after["DequantizeLinear"] - before["DequantizeLinear"] == 1


def test_all_in_float_computes_what_the_model_computes():
    same = quantise(MODEL, PICTURES, keep_float=LAYERS)
    exact, close = (run(optimised_session(m), {"images": PICTURES})[0] for m in (MODEL, same))
    np.testing.assert_allclose(close, exact, rtol=1e-4, atol=1e-4)


def test_an_unknown_layer_is_refused_with_those_that_there_are():
    with pytest.raises(UsageError, match=r"no layer conv_9 .* has conv_2, conv_4, add_5, gemm_10"):
        quantise(MODEL, PICTURES, keep_float=["conv_2", "conv_9"])


def test_a_layer_that_int8_leaves_alone_anyway_is_no_candidate():
    with pytest.raises(UsageError, match="no layer softmax_11"):
        quantise(MODEL, PICTURES, keep_float=["softmax_11"])


def test_a_layer_in_float_that_nobody_named_does_not_pass_the_audit():
    model = quantise(MODEL, PICTURES, keep_float=["conv_2", "conv_4"])
    with pytest.raises(AuditError, match="runs 1 of its nodes in float: conv_4"):
        check_integer(model, ["conv_2"])


def test_a_named_layer_that_runs_in_integers_does_not_pass_either():
    with pytest.raises(AuditError, match="runs conv_4 in integers, which --keep-float"):
        check_integer(quantise(MODEL, PICTURES), ["conv_4"])
