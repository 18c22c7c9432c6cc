from types import SimpleNamespace

import pytest

from service.compatibility import check_replaces
from service.model import ModelError
from service.tensors import TensorSpec

X = TensorSpec("x", "FP32", (-1, 2), ("batch", ""))
Y = TensorSpec("y", "FP32", (-1, 3), ("batch", ""))
EXTRA = TensorSpec("extra", "FP32", (-1,), ("batch",))
OLD = {"path": "old.onnx", "inputs": (X,), "outputs": (Y,), "card": None}


def check(**changes):
    check_replaces(SimpleNamespace(**OLD | {"path": "new.onnx"} | changes), SimpleNamespace(**OLD))


def test_more_outputs_and_other_names_of_sizes_are_compatible():
    check()
    check(outputs=(EXTRA, Y), inputs=(TensorSpec("x", "FP32", (-1, 2), ("n", "")),))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": (X, EXTRA)}, r"new.onnx takes x .*, extra .*; the version .* takes x FP32"),
        ({"inputs": (TensorSpec("x", "FP64", (-1, 2), ("", "")),)}, "takes x FP64"),
        ({"outputs": ()}, "gives"),
        ({"outputs": (TensorSpec("y", "FP32", (-1, 4), ("", "")),)}, r"gives y FP32 \[-1, 4\]"),
    ],
)
def test_what_would_break_a_client_is_refused(changes, message):
    with pytest.raises(ModelError, match=message):
        check(**changes)


def test_a_card_may_come_but_not_go():
    check(card="a card")
    new, old = SimpleNamespace(**OLD), SimpleNamespace(**OLD | {"card": "a card"})
    with pytest.raises(ModelError, match="has no card"):
        check_replaces(new, old)
