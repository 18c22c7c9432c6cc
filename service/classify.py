"""POST /v1/classify: pictures in, labels with probabilities out."""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import numpy as np

from service.errors import BadRequestError, InternalError, ServiceError, UnprocessableError
from service.http import error_response, json_response
from service.scores import probabilities
from service.shown import shown
from service.uploads import read_upload

if TYPE_CHECKING:
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
    pictures = await state.decoder.decode(
        upload.files, card.height, card.width, deadline=request.deadline
    )
    rows = [picture for picture in pictures if not isinstance(picture, ServiceError)]
    scores: list[list[float]] = []
    if rows:
        scores = (await _score(served, rows, request.deadline)).tolist()
    state.metrics.pictures(served.model.name, len(rows), len(pictures) - len(rows))
    remaining = iter(scores)
    outcomes = [
        picture if isinstance(picture, ServiceError) else _checked(next(remaining))
        for picture in pictures
    ]
    return _answer(served, upload.names, outcomes, top_k)


async def _score(
    served: Served, rows: list[NDArray[np.uint8]], deadline: float | None
) -> NDArray[Any]:
    """Return float (len(rows), labels); run in a shared batch where the model allows it."""
    model, classes = served.model, len(card_of(served).labels)
    served.statistics.asked()
    if model.batchable:
        batch = rows[0][None] if len(rows) == 1 else np.stack(rows)
        ran = await served.batcher.submit(batch, deadline=deadline)
        return probabilities(ran.arrays, model.scores, classes)
    scores = []
    for row in rows:
        feeds = {model.inputs[0].name: row[None]}
        ran = await served.direct.run(feeds, outputs=(model.scores,), deadline=deadline)
        scores.append(probabilities(ran.arrays, model.scores, classes))
    return np.concatenate(scores)


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
        raise BadRequestError(f"model must be a model's name, got {shown(value)}")
    return value or None


def parse_top_k(value: Any, classes: int) -> int:
    """Return how many predictions to give, `classes` at most; 5 where nothing or "" was given.

    Raises:
        BadRequestError: not a whole number of at least 1.
    """
    if value is None or value == "":
        return min(DEFAULT_TOP_K, classes)
    digits = str(value).lstrip("0") if isinstance(value, str | int) else ""
    if not (digits.isascii() and digits.isdigit()):
        raise BadRequestError(f"top_k must be a whole number of at least 1, got {shown(value)}")
    return min(int(digits[:9]), classes)


def predictions(labels: tuple[str, ...], scores: list[float], top_k: int) -> list[dict[str, Any]]:
    """Return the `top_k` labels with their probabilities, best first."""
    best = heapq.nlargest(top_k, range(len(scores)), key=scores.__getitem__)
    return [{"label": labels[i], "probability": round(scores[i], 6)} for i in best]


def _checked(scores: list[float]) -> list[float] | ServiceError:
    """Return the scores, or an error where one of them is no number."""
    if math.isfinite(sum(scores)):
        return scores
    return InternalError("the model gave NaN or infinity as this picture's scores")


def _answer(
    served: Served,
    names: list[str | None],
    outcomes: list[list[float] | ServiceError],
    top_k: int,
) -> Response:
    """Return each picture's predictions or error; an error alone where no picture has others."""
    labels = card_of(served).labels
    results: list[dict[str, Any]] = []
    errors: list[ServiceError] = []
    for name, outcome in zip(names, outcomes, strict=True):
        if isinstance(outcome, ServiceError):
            errors.append(outcome)
            results.append({"filename": name, "error": str(outcome), "code": outcome.code})
        else:
            best = predictions(labels, outcome, top_k)
            results.append({"filename": name, "predictions": best})
    if len(errors) == len(results):
        more = {"results": results} if len(results) > 1 else {}
        return error_response(errors[0], **more)
    return json_response({"model": served.model.name, "results": results})
