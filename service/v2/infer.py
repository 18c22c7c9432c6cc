"""The infer call, from the bytes of a request to the bytes of its answer: the hot path."""

from __future__ import annotations

import math
from time import monotonic, perf_counter_ns
from typing import TYPE_CHECKING, Any

from service.errors import BadRequestError, InternalError, ServiceError
from service.v2 import binding, classification, compression, response
from service.v2.pictures import decode_pictures
from service.v2.request import InferRequest, decode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from service.catalogue import Served
    from service.state import State
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
        answer, rows = await _infer(state, served, headers, body, deadline)
    except ServiceError:
        served.statistics.failed(perf_counter_ns() - started)
        raise
    served.statistics.answered(rows, perf_counter_ns() - started)
    return answer


async def _infer(
    state: State,
    served: Served,
    headers: Mapping[bytes, bytes],
    body: bytes,
    deadline: float | None,
) -> tuple[Answer, int]:
    model, statistics = served.model, served.statistics
    clock = perf_counter_ns()
    encoding = headers.get(b"content-encoding")
    if encoding is not None:
        body = compression.decompress(body, encoding.decode("latin-1"), state.settings.max_body)
    request = _read(body, headers.get(HEADER_LENGTH), served)
    outputs = binding.bind_outputs(request, model)
    if request.timeout is not None:
        deadline = min(deadline or math.inf, monotonic() + request.timeout)
    files = binding.bind_pictures(request.tensors, model)
    if files is not None and model.card is not None:
        feeds = {model.inputs[0].name: await decode_pictures(state, files, model.card)}
    else:
        feeds = binding.bind_inputs(request.tensors, model)
    clock = statistics.compute_input.lap(clock)
    rows, arrays = await _run(served, feeds, deadline)
    clock = statistics.inferred(clock, model.executions.last)
    labels = model.card.labels if model.card else ()
    chosen = []
    for wanted in outputs:
        array = arrays[wanted.name]
        if wanted.classes:
            array = classification.best(array, wanted.classes, labels, wanted.name)
        chosen.append((wanted.name, array, wanted.binary))
    head = {"model_name": model.name, "model_version": model.version}
    if request.id is not None:
        head = {"id": request.id, **head}
    answer_headers, answer = response.encode(head, chosen)
    accept = headers.get(b"accept-encoding")
    chosen_encoding = compression.choose(accept.decode("latin-1")) if accept else None
    if chosen_encoding is not None:
        answer = compression.compress(answer, chosen_encoding)
        answer_headers.append((b"content-encoding", chosen_encoding.encode()))
    statistics.compute_output.lap(clock)
    return (200, answer_headers, answer), rows


def _read(body: bytes, header_length: bytes | None, served: Served) -> InferRequest:
    if header_length is None:
        return decode(body, None)
    if not header_length.isdigit() or len(header_length) > 12:
        raise BadRequestError(
            f"Inference-Header-Content-Length must be a number of bytes, got {header_length!r:.40}"
        )
    length = int(header_length)
    return decode(body, length) if length else binding.raw_request(body, served.model)


async def _run(
    served: Served, feeds: dict[str, NDArray[Any]], deadline: float | None
) -> tuple[int, dict[str, NDArray[Any]]]:
    """Return the row count and all outputs; run in a shared batch where the model allows it."""
    rows = next(iter(feeds.values()))
    if not served.model.batchable:
        try:
            return (len(rows) if rows.ndim else 1), await served.direct.run(
                feeds, deadline=deadline
            )
        except ServiceError:
            raise
        except Exception as error:
            raise InternalError(f"the model failed to run: {error}") from error
    if not len(rows):
        raise BadRequestError("the batch is empty: the first size of 'shape' must be at least 1")
    return len(rows), await served.batcher.submit(rows, deadline=deadline)
