import asyncio
import contextlib
import json
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import BadRequestError
from service.tensors import DTYPES
from service.v2.request import decode, read

NUMERIC = [name for name in DTYPES if name not in ("BYTES", "BOOL")]


def body(*inputs, **rest):
    return json.dumps({"inputs": list(inputs), **rest}).encode()


def entry(**changes):
    whole = {"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]} | changes
    return {key: value for key, value in whole.items() if value is not None}


def binary(tail: bytes, **changes):
    text = body(entry(data=None, **changes))
    return text + tail, len(text)


@pytest.mark.parametrize("datatype", NUMERIC)
@pytest.mark.parametrize("data", [[1, 2, 3, 4], [[1, 2], [3, 4]]])
def test_json_numbers_nested_or_flat(datatype, data):
    (tensor,) = decode(body(entry(shape=[2, 2], datatype=datatype, data=data)), None).tensors
    assert tensor.array.dtype == DTYPES[datatype]
    np.testing.assert_array_equal(tensor.array, [[1, 2], [3, 4]])


@pytest.mark.parametrize("datatype", NUMERIC)
def test_binary_numbers_are_views_into_the_body(datatype):
    values = np.array([1, 2], DTYPES[datatype])
    whole, length = binary(
        values.tobytes(), datatype=datatype, parameters={"binary_data_size": values.nbytes}
    )
    (tensor,) = decode(whole, length).tensors
    np.testing.assert_array_equal(tensor.array, values)
    assert np.shares_memory(tensor.array, np.frombuffer(whole, np.uint8))


@pytest.mark.parametrize(
    ("elements", "as_json", "in_thread"),
    [(10, True, False), (20_000, True, True), (20_000, False, False), (400_000, False, True)],
)
def test_a_request_is_read_in_a_thread_where_that_takes_long(
    monkeypatch, elements, as_json, in_thread
):
    readers = []

    def parse(text):
        readers.append(threading.current_thread())
        return json.loads(bytes(text))

    monkeypatch.setattr("service.v2.request.parse_json", parse)
    changes = {"shape": [elements], "datatype": "UINT8"}
    if as_json:
        whole, length = body(entry(data=[7] * elements, **changes)), None
    else:
        changes["parameters"] = {"binary_data_size": elements}
        whole, length = binary(b"\7" * elements, **changes)
    (tensor,) = asyncio.run(read(whole, length)).tensors
    assert tensor.array.tolist() == [7] * elements
    assert [reader is not threading.current_thread() for reader in readers] == [in_thread]


def test_several_binary_inputs_lie_in_their_order():
    inputs = [
        entry(name="a", data=None, datatype="UINT8", parameters={"binary_data_size": 2}),
        entry(name="b", data=[7, 8]),
        entry(name="c", data=None, datatype="BYTES", parameters={"binary_data_size": 11}),
    ]
    text = body(*inputs)
    tail = b"\x01\x02" + b"\x03\x00\x00\x00abc" + b"\x00\x00\x00\x00"
    a, b, c = decode(text + tail, len(text)).tensors
    assert a.array.tolist() == [1, 2]
    assert b.array.tolist() == [7, 8]
    assert c.array.tolist() == [b"abc", b""]


@pytest.mark.parametrize("data", [[True, False], [1, 0]])
def test_booleans(data):
    (tensor,) = decode(body(entry(datatype="BOOL", data=data)), None).tensors
    assert tensor.array.tolist() == [True, False]


@pytest.mark.parametrize("datatype", NUMERIC)
@pytest.mark.parametrize("data", [[True, False], [True, 0], [1, False]])
def test_true_and_false_are_one_and_zero_also_in_a_mixture(datatype, data):
    (tensor,) = decode(body(entry(datatype=datatype, data=data)), None).tensors
    assert tensor.array.dtype == DTYPES[datatype]
    assert tensor.array.tolist() == [1, 0]


def test_integers_keep_all_their_bits():
    data = [2**64 - 1, 1]
    (tensor,) = decode(body(entry(datatype="UINT64", data=data)), None).tensors
    assert tensor.array.tolist() == data


def test_what_is_wanted_back():
    request = decode(
        body(
            entry(),
            id="7",
            parameters={"binary_data_output": True, "timeout": 1500},
            outputs=[
                {"name": "a"},
                {"name": "b", "parameters": {"binary_data": False, "classification": 3}},
            ],
        ),
        None,
    )
    assert (request.id, request.binary, request.timeout) == ("7", True, 0.0015)
    a, b = request.outputs
    assert (a.name, a.binary, a.classes) == ("a", True, 0)
    assert (b.name, b.binary, b.classes) == ("b", False, 3)


@pytest.mark.parametrize("rest", [{}, {"outputs": None}, {"outputs": []}])
def test_no_outputs_named_means_all(rest):
    assert decode(body(entry(), **rest), None).outputs is None


LONG = "x" * 10_000

BAD = {
    "not valid JSON": b"{",
    "must be a JSON object": b"[]",
    "'inputs' must be an array": b"{}",
    "at least one input, got \\[\\]": body(),
    "an object with a 'name'": body(3),
    "'datatype' must be one of BOOL, .*, got 'FP99'": body(entry(datatype="FP99")),
    "'shape' must be .* whole numbers of at least 0, got \\[-1\\]": body(entry(shape=[-1])),
    "at most 32 sizes": body(entry(shape=[1] * 33)),
    "'shape' must be .*, got \\[True\\]": body(entry(shape=[True])),
    "its shape needs 2 elements, got 3": body(entry(data=[1, 2, 3])),
    "expected 'data' or 'binary_data_size', got none": body(entry(data=None)),
    "expected 'data' or 'binary_data_size', got both": body(
        entry(parameters={"binary_data_size": 0})
    ),
    "'data' must be an array, got 3": body(entry(data=3)),
    "flat or nested evenly": body(entry(data=[[1], [2, 3]])),
    "FP32 needs numbers of at most 3.* got texts": body(entry(data=["a", "b"])),
    "INT8 needs integers from -128 to 127, got 200": body(entry(datatype="INT8", data=[1, 200])),
    "INT32 needs integers .* got 1.5": body(entry(datatype="INT32", data=[1, 1.5])),
    "UINT64 needs integers .* got -1": body(entry(datatype="UINT64", data=[2**63, -1])),
    "BOOL needs booleans, got 2": body(entry(datatype="BOOL", data=[1, 2])),
    "BOOL needs booleans, got numbers": body(entry(datatype="BOOL", data=[1, 0.5])),
    "FP16 needs numbers of at most 65504.0, got 1000000.0": body(
        entry(datatype="FP16", data=[1, 1e6])
    ),
    "BYTES needs texts, got null": body(entry(datatype="BYTES", data=["a", None])),
    "no shared memory": body(entry(parameters={"shared_memory_region": "r"})),
    "'binary_data_size' is 8; expected 0 to 0": body(
        entry(data=None, parameters={"binary_data_size": 8})
    ),
    "'binary_data_output' must be true or false": body(
        entry(), parameters={"binary_data_output": 1}
    ),
    "'timeout' must be": body(entry(), parameters={"timeout": -1}),
    "'id' must be a text": body(entry(), id=7),
    "'outputs' must be an array": body(entry(), outputs="y"),
    "'outputs' must be an array, got ''": body(entry(), outputs=""),
    "'outputs' must be an array, got {}": body(entry(), outputs={}),
    "'outputs' must be an array, got 0": body(entry(), outputs=0),
    "'classification' must be a count": body(
        entry(), outputs=[{"name": "y", "parameters": {"classification": -1}}]
    ),
    "'parameters' of the request must be an object": body(entry(), parameters=[1]),
}


@pytest.mark.parametrize("message", BAD)
def test_what_is_wrong_is_said(message):
    with pytest.raises(BadRequestError, match=message):
        decode(BAD[message], None)


@pytest.mark.parametrize(
    ("tail", "changes", "message"),
    [
        (bytes(9), {}, "take 8 bytes of binary data, got 9"),
        (bytes(8), {"shape": [3]}, "3 elements of FP32 take 12 bytes"),
        (bytes(8), {"shape": [2**62, 2**62]}, "take .* bytes"),
        (bytes(8), {"datatype": "BYTES"}, None),
        (b"\xff\xff\xff\xff1234", {"datatype": "BYTES"}, "promises 4294967295 bytes, got 4"),
        (b"\x01\x00\x00\x00a123", {"datatype": "BYTES"}, "4-byte length at byte 5, got 3"),
        # What follows the last promised element is not even looked at.
        (bytes(4) + b"\xff" * 4, {"datatype": "BYTES", "shape": [1]}, "1 elements, got more"),
        (bytes(8), {"datatype": "BYTES", "shape": [3]}, "needs 3 elements, got 2"),
    ],
)
def test_binary_sizes_are_checked(tail, changes, message):
    whole, length = binary(tail, parameters={"binary_data_size": 8}, **changes)
    if message is None:
        assert decode(whole, length).tensors[0].array.tolist() == [b"", b""]
        return
    with pytest.raises(BadRequestError, match=message):
        decode(whole, length)


@pytest.mark.parametrize("length", [-1, 10**9])
def test_the_header_length_lies_within_the_body(length):
    with pytest.raises(BadRequestError, match="Inference-Header-Content-Length"):
        decode(body(entry()), length)


# h11's property: whatever comes, it is accepted or refused with the one declared error.
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)
INPUT = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("x") | JSON,
        "datatype": st.sampled_from(sorted(DTYPES)) | JSON,
        "shape": st.lists(st.integers(-1, 4) | st.sampled_from([2**31, 2**63]), max_size=4) | JSON,
        "data": JSON,
        "parameters": st.fixed_dictionaries({}, optional={"binary_data_size": st.integers(-1, 20)})
        | JSON,
    },
)
REQUEST = st.fixed_dictionaries(
    {"inputs": st.lists(INPUT, max_size=3) | JSON},
    optional={"outputs": JSON, "parameters": JSON, "id": JSON},
)


@given(REQUEST, st.binary(max_size=40), st.none() | st.integers(-2, 2))
def test_any_request_is_accepted_or_refused(request_json, tail, off):
    text = json.dumps(request_json).encode()
    with contextlib.suppress(BadRequestError):
        request = decode(text + tail, None if off is None else len(text) + off)
        assert all(isinstance(tensor.array, np.ndarray) for tensor in request.tensors)


@given(st.binary(max_size=200), st.none() | st.integers(-2, 250))
def test_any_bytes_are_accepted_or_refused(data, length):
    with pytest.raises(BadRequestError):
        decode(data, length)


@pytest.mark.parametrize(
    "sent",
    [
        body(entry(), id=[LONG] * 9),
        body(entry(name=LONG, shape=[3])),
        body(entry(name=LONG, data=[1], parameters=3)),
        body(entry(name=LONG, datatype="BYTES", data=[1, 2])),
        body(entry(datatype=LONG)),
        body(entry(), outputs=[{"name": LONG, "parameters": {"classification": LONG}}]),
        body([[[[[LONG] * 9] * 9] * 9] * 9] * 9),
    ],
)
def test_an_error_repeats_no_more_of_a_request_than_a_reader_needs(sent):
    with pytest.raises(BadRequestError) as caught:
        decode(sent, None)
    assert len(str(caught.value)) < 600
