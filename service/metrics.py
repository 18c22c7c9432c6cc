"""What Prometheus scrapes: counts and times of the whole server, all workers together."""

from __future__ import annotations

import os
from collections import Counter as Counts
from typing import TYPE_CHECKING, Any, cast

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
    values,
)

from service.shared import reserve, shared_folder

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from prometheus_client import Metric

    from service.repository import Repository

CONTENT_TYPE = b"text/plain; version=1.0.0; charset=utf-8"

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)

# A worker's files, as prometheus_client names them, and the bytes that each has from the start:
# enough for all routes and ten models.
_FILES = ("counter", "histogram", "gauge_livesum")
_ROOM = 128 << 10


class Metrics:
    """The service's metrics; used from the event loop's thread."""

    def __init__(self) -> None:
        _count_in(shared_folder())
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "flatfold_requests", "Requests answered.", ("route", "status"), registry=registry
        )
        self._seconds = Histogram(
            "flatfold_request_seconds",
            "Seconds from a request's head to its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._pictures = Counter(
            "flatfold_pictures",
            "Pictures of /v1/classify by what came of them.",
            ("model", "outcome"),
            registry=registry,
        )
        self._batch_size = Histogram(
            "flatfold_batch_size",
            "Rows in one inference.",
            ("model",),
            buckets=_SIZES,
            registry=registry,
        )
        self._batch_seconds = Histogram(
            "flatfold_inference_seconds",
            "Seconds of one inference.",
            ("model",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._wait = Histogram(
            "flatfold_queue_seconds",
            "Longest wait in the queue before one inference.",
            ("model",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._queue = Gauge(
            "flatfold_queue_rows",
            "Rows waiting for inference.",
            ("model",),
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._in_flight = Gauge(
            "flatfold_requests_in_flight",
            "Requests being handled.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._queued: Counts[str] = Counts()  # rows waiting, of every model that was ever served
        # labels() costs more than the update behind it: its results are kept.
        self._request_children: dict[tuple[str, int], Counter] = {}
        self._second_children: dict[str, Histogram] = {}
        self._batch_children: dict[str, tuple[Histogram, Histogram, Histogram]] = {}

    def request(self, route: str, status: int, seconds: float | None = None) -> None:
        """Count one answered request; None seconds for one that was not timed."""
        key = (route, status)
        counter = self._request_children.get(key)
        if counter is None:
            counter = self._request_children[key] = self._requests.labels(route, str(status))
        counter.inc()
        if seconds is None:
            return
        histogram = self._second_children.get(route)
        if histogram is None:
            histogram = self._second_children[route] = self._seconds.labels(route)
        histogram.observe(seconds)

    def pictures(self, model: str, good: int, bad: int) -> None:
        """Count the pictures of one request."""
        if good:
            self._pictures.labels(model, "classified").inc(good)
        if bad:
            self._pictures.labels(model, "unreadable").inc(bad)

    def batch(self, model: str, rows: int, seconds: float, wait: float) -> None:
        """Count one inference."""
        children = self._batch_children.get(model)
        if children is None:
            families = (self._batch_size, self._batch_seconds, self._wait)
            size, run, queue = (family.labels(model) for family in families)
            children = self._batch_children[model] = (size, run, queue)
        for child, value in zip(children, (rows, seconds, wait), strict=True):
            child.observe(value)

    def gauge(self, repository: Repository, in_flight: int) -> None:
        """Note how much waits and runs now; of several workers each has to, whoever is scraped."""
        self._in_flight.set(in_flight)
        self._queued = Counts(dict.fromkeys(self._queued, 0))  # of a model that is gone, none waits
        for served in repository.all():
            self._queued[served.model.name] += served.queued
        for name, rows in self._queued.items():
            self._queue.labels(name).set(rows)

    def exposition(self, repository: Repository, in_flight: int) -> bytes:
        """Return the metrics as text, of all workers when there are several."""
        self.gauge(repository, in_flight)
        folder = shared_folder()
        if folder is None:
            return generate_latest(self._registry)
        whole = CollectorRegistry()
        whole.register(_Merged(folder))
        return generate_latest(whole)


def _count_in(folder: Path | None) -> None:
    """Have the metrics that are made from here on count in `folder`, and in memory where None.

    prometheus_client has a variable of its own for that, and reads it at its import; but one that
    another program left in the environment is not meant for this server.

    Raises:
        FlatfoldError: the disk has no room for them.
    """
    if folder is None:
        values.ValueClass = values.MutexValue
    else:
        for kind in _FILES:
            reserve(folder / f"{kind}_{os.getpid()}.db", _ROOM)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
        values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]  # theirs


class _Merged:
    """The sum of what the workers' files in `folder` hold.

    A file that a worker is just creating is empty, which prometheus_client's own collector takes
    for a damaged one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        files = [str(file) for file in self._folder.glob("*.db") if _written(file)]
        merge: Any = multiprocess.MultiProcessCollector.merge
        return cast("Iterable[Metric]", merge(files, accumulate=True))


def _written(file: Path) -> bool:
    try:
        return file.stat().st_size > 0
    except FileNotFoundError:  # of a worker that just died
        return False
