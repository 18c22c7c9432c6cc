from types import SimpleNamespace

import numpy as np
import pytest

from service.tensors import DTYPES, TensorSpec
from service.v2.binding import raw_request
from service.v2.request import decode


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
