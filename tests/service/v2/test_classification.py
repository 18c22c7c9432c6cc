import numpy as np
import pytest

from service.errors import BadRequestError
from service.v2.classification import best

LABELS = ("red", "green", "blue")


def test_best_first_with_six_decimals_and_the_lower_index_of_equals():
    values = np.array([[0.25, 0.5, 0.25], [1, 0, 0]], np.float32)
    assert best(values, 2, LABELS, "y").tolist() == [
        ["0.500000:1:green", "0.250000:0:red"],
        ["1.000000:0:red", "0.000000:1:green"],
    ]


def test_more_than_there_are_means_all_and_a_class_without_a_label_its_index():
    assert best(np.array([[1, 2]], np.uint8), 9, ("red",), "y").tolist() == [
        ["2.000000:1", "1.000000:0:red"]
    ]


@pytest.mark.parametrize("values", [np.zeros(3), np.zeros((1, 2, 3)), np.full((1, 2), "a", object)])
def test_only_tables_of_numbers_can_be_ranked(values):
    with pytest.raises(BadRequestError, match=r"\[batch, classes\]"):
        best(values, 1, LABELS, "y")
