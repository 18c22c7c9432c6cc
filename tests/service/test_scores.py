import numpy as np
import pytest

from service.errors import InternalError
from service.scores import find_scores, probabilities
from service.tensors import TensorSpec


def spec(name, columns, datatype="FP32"):
    return TensorSpec(name, datatype, (-1, columns), ("", ""))


@pytest.mark.parametrize(
    ("outputs", "chosen"),
    [
        ([spec("logits", 3), spec("probabilities", 3)], "probabilities"),
        ([spec("other", 3), spec("logits", 3)], "logits"),
        ([spec("probabilities", 2), spec("logits", 3)], "logits"),
        ([spec("embedding", 2), spec("scores", 3)], "scores"),
        ([spec("embedding", -1), spec("scores", 3)], "scores"),
        ([spec("best", 3, "INT64"), spec("scores", 3)], "scores"),
        ([TensorSpec("total", "FP32", (), ()), spec("free", -1)], "free"),
        ([spec("one", 3), spec("two", 3)], "one"),
        ([spec("embedding", 6), TensorSpec("row", "FP32", (3,), ("",))], None),
    ],
)
def test_the_scores_are_found_by_name_then_by_columns(outputs, chosen):
    assert find_scores(outputs, 3) == chosen


LOGITS = np.array([[0, 1, 2], [0, 0, 1]], np.float32)
SOFTMAX = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("probabilities", LOGITS, LOGITS),  # the name is believed
        ("logits", LOGITS, SOFTMAX),
        ("scores", LOGITS[:1], SOFTMAX[:1]),
        ("scores", SOFTMAX, SOFTMAX),
        ("scores", SOFTMAX.astype(np.float16), SOFTMAX),
        ("scores", np.stack([LOGITS[0], SOFTMAX[0]]), np.stack([SOFTMAX[0], SOFTMAX[0]])),
        ("scores", np.array([[1, 2, 0]], np.uint8), SOFTMAX[:1, [1, 2, 0]]),
        ("scores", np.array([[0, -np.inf, -np.inf]]), [[1, 0, 0]]),
    ],
)
def test_what_is_a_probability_already_is_left_so(name, values, expected):
    result = probabilities({name: values, "other": values[:, :1]}, name, 3)
    np.testing.assert_allclose(result, expected, atol=1e-3)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_row_with_no_number_spoils_itself_alone(bad):
    result = probabilities({"s": np.array([[0, bad, 2], [0, 1, 2]])}, "s", 3)
    assert np.isnan(result[0]).any()
    np.testing.assert_allclose(result[1], SOFTMAX[0], rtol=1e-6)


def test_another_number_of_columns_is_an_error_and_no_wrong_label():
    with pytest.raises(InternalError, match=r"\(2, 3\) for 's'; expected 4 columns"):
        probabilities({"s": LOGITS}, "s", 4)
