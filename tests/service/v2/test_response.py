import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from service.errors import UnprocessableError
from service.tensors import DTYPES
from service.v2.request import decode
from service.v2.response import encode

NUMERIC = sorted(set(DTYPES) - {"BYTES"})


def parts(headers, body):
    """Return the JSON and the bytes after it."""
    length = dict(headers).get(b"inference-header-content-length")
    end = len(body) if length is None else int(length)
    return json.loads(body[:end]), body[end:]


def test_json_is_the_head_and_flat_data():
    headers, body = encode({"model_name": "m"}, [("y", np.ones((1, 2), np.float32), False)])
    assert headers == [(b"content-type", b"application/json")]
    assert json.loads(body) == {
        "model_name": "m",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 1.0]}],
    }


def test_json_and_binary_outputs_side_by_side():
    texts = np.array(["ab", "ü"], object)
    headers, body = encode(
        {}, [("a", np.array([1], np.int64), True), ("b", texts, False), ("c", texts, True)]
    )
    assert (b"content-type", b"application/octet-stream") in headers
    message, tail = parts(headers, body)
    a, b, c = message["outputs"]
    assert a == {
        "name": "a", "datatype": "INT64", "shape": [1], "parameters": {"binary_data_size": 8}
    }  # fmt: skip
    assert (b["datatype"], b["data"]) == ("BYTES", ["ab", "ü"])
    assert c["parameters"]["binary_data_size"] == len(tail) - 8
    assert tail[8:] == b"\x02\0\0\0ab\x02\0\0\0\xc3\xbc"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_json_has_no_number_for_is_refused_and_binary_carries_it(value):
    array = np.array([value], np.float32)
    with pytest.raises(UnprocessableError, match="binary_data"):
        encode({}, [("y", array, False)])
    assert encode({}, [("y", array, True)])[1].endswith(array.tobytes())


def test_bytes_that_are_no_text_are_refused_as_json():
    with pytest.raises(UnprocessableError, match="UTF-8"):
        encode({}, [("y", np.array([b"\xff"], object), False)])


@given(st.data(), st.sampled_from(NUMERIC), st.booleans())
def test_what_is_written_is_what_is_read(data, datatype, binary):
    """Response and request describe tensors in the same way, so one reads the other."""
    array = data.draw(
        hnp.arrays(
            DTYPES[datatype],
            hnp.array_shapes(max_dims=3, min_side=0, max_side=3),
            elements={"allow_nan": False, "allow_infinity": False}
            if datatype.startswith("FP")
            else None,
        )
    )
    headers, body = encode({}, [("x", array, binary)])
    message, tail = parts(headers, body)
    text = json.dumps({"inputs": message["outputs"]}).encode()
    (tensor,) = decode(text + tail, len(text)).tensors
    assert tensor.datatype == datatype
    np.testing.assert_array_equal(tensor.array, array)
