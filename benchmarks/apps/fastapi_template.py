"""A FastAPI service as careful people write it: lifespan, typed answer, work in the thread pool."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel

from benchmarks.apps.pipeline import Pipeline


class Prediction(BaseModel):
    """One label."""

    label: str
    probability: float


class Answer(BaseModel):
    """What a picture gets."""

    predictions: list[Prediction]


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Load the model once a worker."""
    app.state.pipeline = Pipeline()
    yield


app = FastAPI(lifespan=lifespan)


@app.post("/v1/classify")
async def classify(request: Request) -> Answer:
    """One picture as the raw body, which spares it multipart parsing."""
    body = await request.body()
    pipeline: Any = request.app.state.pipeline
    return Answer(**await run_in_threadpool(pipeline.classify, body))
