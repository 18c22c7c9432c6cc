from types import SimpleNamespace

import numpy as np
import pytest

from flatfold.contract.card import Card
from service.errors import BadRequestError
from service.tensors import DTYPES, TensorSpec
from service.v2.binding import bind_pictures, raw_request
from service.v2.length_prefixed import as_array
from service.v2.request import Tensor, decode


def test_more_pictures_than_a_fixed_batch_takes_are_refused():
    card = Card(name="m", labels=("a",), height=8, width=8)
    spec = TensorSpec("x", "UINT8", (1, 8, 8, 3), ("",) * 4)
    takes_one = SimpleNamespace(name="m", inputs=(spec,), card=card)
    one, two = ((Tensor("x", "BYTES", as_array([b"file"] * count)),) for count in (1, 2))
    assert bind_pictures(one, takes_one) == [b"file"]
    with pytest.raises(BadRequestError, match=r"takes one picture at a time, .* got 2"):
        bind_pictures(two, takes_one)


def model(datatype, *sizes):
    return SimpleNamespace(name="m", inputs=(TensorSpec("x", datatype, sizes, ("",) * len(sizes)),))


@pytest.mark.parametrize("datatype", [name for name in DTYPES if name != "BYTES"])
def test_a_raw_body_is_read_as_binary_data_is(datatype):
    body = bytes([1, 2, 0, 255] * 4)
    count = len(body) // DTYPES[datatype].itemsize
    (raw,) = raw_request(body, model(datatype, -1, count)).tensors
    head = (
        b'{"inputs":[{"name":"x","datatype":"%s","shape":[1,%d],'
        b'"parameters":{"binary_data_size":%d}}]}' % (datatype.encode(), count, len(body))
    )
    (binary,) = decode(head + body, len(head)).tensors
    assert raw.array.shape == binary.array.shape
    assert raw.array.tobytes() == binary.array.tobytes()


def test_any_byte_but_0_of_a_raw_boolean_is_true():
    (tensor,) = raw_request(b"\x02\x00\xff", model("BOOL", -1, 3)).tensors
    assert tensor.array.view(np.uint8).tolist() == [[1, 0, 1]]
