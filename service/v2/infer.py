"""The infer call, from the bytes of a request to the bytes of its answer: the hot path."""

from __future__ import annotations

import asyncio
import math
from functools import partial
from time import monotonic, perf_counter_ns
from typing import TYPE_CHECKING, Any

from service.errors import BadRequestError, ServiceError
from service.shown import shown
from service.threads import by_size
from service.v2 import binding, classification, compression, response
from service.v2.pictures import decode_pictures
from service.v2.request import InferRequest, read

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from service.catalogue import Served
    from service.executions import Execution
    from service.model import Model
    from service.state import State
    from service.v2.request import WantedOutput
    from service.v2.response import Headers

Answer = tuple[int, "Headers", bytes]  # status, headers, body

HEADER_LENGTH = b"inference-header-content-length"


async def infer(  # noqa: PLR0913 - what a request consists of
    state: State,
    name: str,
    version: str | None,
    headers: Mapping[bytes, bytes],
    body: bytes,
    *,
    deadline: float | None = None,
) -> Answer:
    """Answer one infer request.

    Args:
        state: the server.
        name: the model.
        version: its version; None for the highest.
        headers: of the request, names in lower case.
        body: as received.
        deadline: `time.monotonic()` after which nobody waits for the answer; None for never.

    Returns:
        Status, headers and body of the answer.

    Raises:
        ServiceError: the declared error; nothing else comes out of here for any request.
    """
    served = state.repository.get(name, version)
    started = perf_counter_ns()
    try:
        arrived = monotonic()
        request = await _read(headers, body, served.model, state.settings.max_body)
        if request.timeout is not None:
            deadline = min(deadline or math.inf, arrived + request.timeout)
        outputs = binding.bind_outputs(request, served.model)
        feeds = await _feeds(state, request, served.model, deadline)
        clock = served.statistics.compute_input.lap(started)
        ran = await _run(served, feeds, deadline)
        clock = served.statistics.inferred(clock, int(ran.seconds * 1e9))
        size = sum(ran.arrays[wanted.name].nbytes for wanted in outputs)
        encode = partial(_answer, served.model, request.id, outputs, ran.arrays, headers)
        answer = await by_size(size, encode)
        served.statistics.compute_output.lap(clock)
    except (ServiceError, asyncio.CancelledError):
        served.statistics.failed(perf_counter_ns() - started)
        raise
    served.statistics.answered(perf_counter_ns() - started)
    return answer


async def _read(
    headers: Mapping[bytes, bytes], body: bytes, model: Model, max_body: int
) -> InferRequest:
    """Uncompress and decode."""
    encoding = headers.get(b"content-encoding")
    if encoding is not None:
        undo = partial(compression.decompress, body, encoding.decode("latin-1"), max_body)
        body = await by_size(len(body), undo)
    length = headers.get(HEADER_LENGTH)
    if length is None:
        return await read(body, None)
    if not length.isdigit() or len(length) > 12:
        raise BadRequestError(
            f"Inference-Header-Content-Length must be a number of bytes, got {shown(length)}"
        )
    return await read(body, int(length)) if int(length) else binding.raw_request(body, model)


async def _feeds(
    state: State, request: InferRequest, model: Model, deadline: float | None
) -> dict[str, NDArray[Any]]:
    """Return input name -> array: the request's tensors, or the pixels of its picture files."""
    files = binding.bind_pictures(request.tensors, model)
    if files is None or model.card is None:
        return binding.bind_inputs(request.tensors, model)
    pixels = await decode_pictures(state, files, model.card, deadline=deadline)
    return {model.inputs[0].name: pixels}


async def _run(served: Served, feeds: dict[str, NDArray[Any]], deadline: float | None) -> Execution:
    """Return all outputs; run in a shared batch where the model allows it."""
    if not served.model.batchable:
        return await served.direct.run(feeds, deadline=deadline)
    (rows,) = feeds.values()
    if not len(rows):
        raise BadRequestError(f"the batch is empty: 'shape' is {list(rows.shape)}")
    return await served.batcher.submit(rows, deadline=deadline)


def _answer(
    model: Model,
    request_id: str | None,
    outputs: tuple[WantedOutput, ...],
    arrays: dict[str, NDArray[Any]],
    headers: Mapping[bytes, bytes],
) -> Answer:
    """Encode what was wanted, compressed where the client accepts it."""
    labels = model.card.labels if model.card else ()
    chosen = []
    for wanted in outputs:
        array = arrays[wanted.name]
        if wanted.classes:
            array = classification.best(array, wanted.classes, labels, wanted.name)
        chosen.append((wanted.name, array, wanted.binary))
    head = {"model_name": model.name, "model_version": model.version}
    if request_id is not None:
        head = {"id": request_id, **head}
    answer_headers, body = response.encode(head, chosen)
    accept = headers.get(b"accept-encoding")
    encoding = compression.choose(accept.decode("latin-1")) if accept else None
    if encoding is not None:
        body = compression.compress(body, encoding)
        answer_headers.append((b"content-encoding", encoding.encode()))
    return 200, answer_headers, body
