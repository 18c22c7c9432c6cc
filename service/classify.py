"""POST /v1/classify: pictures in, labels with probabilities out."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import numpy as np

from flatfold.contract.card import LOGITS_NAME, PROBABILITIES_NAME
from service.errors import BadRequestError, ServiceError, UnprocessableError
from service.http import error_response, json_response
from service.uploads import read_upload

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from flatfold.contract.card import Card
    from service.http import Request, Response
    from service.repository import Served
    from service.state import State

DEFAULT_TOP_K = 5


async def classify(state: State, request: Request) -> Response:
    """Answer one request; a bad picture fails alone, unless it is the only one.

    Raises:
        ServiceError: the request as a whole cannot be answered.
    """
    options = dict(parse_qsl(request.query.decode("latin-1"))) if request.query else {}
    upload = await read_upload(request, state.settings.max_files)
    options = {**upload.fields, **options}
    served = state.repository.get(parse_model(options.get("model")))
    card = card_of(served)
    top_k = parse_top_k(options.get("top_k"), len(card.labels))
    pictures = await state.decoder.decode(upload.files, card.height, card.width)
    rows = [picture for picture in pictures if not isinstance(picture, ServiceError)]
    scores: list[list[float]] = []
    if rows:
        batch = rows[0][None] if len(rows) == 1 else np.stack(rows)
        arrays = await served.batcher.submit(batch, deadline=request.deadline)
        scores = probabilities(arrays).tolist()
    state.metrics.pictures(served.model.name, len(rows), len(pictures) - len(rows))
    outcomes = list(zip(upload.names, pictures, strict=True))
    return _answer(served, outcomes, scores, top_k)


def card_of(served: Served) -> Card:
    """Return the model's card.

    Raises:
        UnprocessableError: it has none, so that nobody knows its labels.
    """
    card = served.model.card
    if card is None:
        raise UnprocessableError(
            f"model {served.model.name!r} has no card: serve it with --labels and --image-size, "
            f"or call /v2/models/{served.model.name}/infer"
        )
    return card


def parse_model(value: Any) -> str | None:
    """Return the model's name; None for the default one.

    Raises:
        BadRequestError: not a text.
    """
    if value is not None and not isinstance(value, str):
        raise BadRequestError(f"model must be a model's name, got {value!r}")
    return value or None


def parse_top_k(value: Any, classes: int) -> int:
    """Return how many predictions to give, `classes` at most.

    Raises:
        BadRequestError: not a whole number of at least 1.
    """
    if value is None:
        return min(DEFAULT_TOP_K, classes)
    text = str(value)
    if isinstance(value, bool) or not text.isascii() or not text.isdigit() or int(text[:9]) < 1:
        raise BadRequestError(f"top_k must be a whole number of at least 1, got {value!r}")
    return min(int(text[:9]), classes)


def probabilities(arrays: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """Return float (n, classes): the model's probabilities, else the softmax of its logits."""
    if PROBABILITIES_NAME in arrays:
        return arrays[PROBABILITIES_NAME]
    logits = arrays.get(LOGITS_NAME)
    if logits is None:
        logits = next(array for array in arrays.values() if array.ndim == 2)
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: NDArray[Any] = shifted / shifted.sum(axis=1, keepdims=True)
    return result


def predictions(labels: tuple[str, ...], scores: list[float], top_k: int) -> list[dict[str, Any]]:
    """Return the `top_k` labels with their probabilities, best first."""
    best = heapq.nlargest(top_k, range(len(scores)), key=scores.__getitem__)
    return [{"label": labels[i], "probability": round(scores[i], 6)} for i in best]


def _answer(
    served: Served,
    outcomes: list[tuple[str | None, NDArray[np.uint8] | ServiceError]],
    scores: list[list[float]],
    top_k: int,
) -> Response:
    """Put results and errors back into the order of the pictures: (file name, outcome) pairs."""
    labels = card_of(served).labels
    results: list[dict[str, Any]] = []
    remaining = iter(scores)
    first_error: ServiceError | None = None
    for name, picture in outcomes:
        if isinstance(picture, ServiceError):
            first_error = first_error or picture
            results.append({"filename": name, "error": str(picture), "code": picture.code})
        else:
            best = predictions(labels, next(remaining), top_k)
            results.append({"filename": name, "predictions": best})
    if first_error is not None and not scores:
        more = {"results": results} if len(results) > 1 else {}
        return error_response(first_error, **more)
    return json_response({"model": served.model.name, "results": results})
