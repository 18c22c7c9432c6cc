"""What the running service consists of, in one place: built by the app, read by the routes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.config import Settings
    from service.decode import Decoder
    from service.metrics import Metrics
    from service.neighbours import Neighbours
    from service.orders import Orders
    from service.repository import Repository
    from service.tracing import Tracing
    from service.v2.shared_statistics import SharedStatistics


@dataclass(slots=True)
class State:
    """One server process.

    Attributes:
        settings: as it was started.
        repository: the models.
        metrics: counters and histograms of the whole server.
        decoder: pictures to pixels.
        ready: whether /v2/health/ready says yes; set once the models are loaded.
        draining: SIGTERM came: nothing new is promised, what is there is finished.
        replaced: another process has this one's place: it ends, and the server does not.
        in_flight: requests being handled.
        orders: carries load and unload to every worker; None where there is only this one.
        statistics: knows the other workers' totals; None likewise.
        neighbours: the server's other processes; None likewise.
        tracing: makes spans; None where OpenTelemetry is not set up.
    """

    settings: Settings
    repository: Repository
    metrics: Metrics
    decoder: Decoder
    ready: bool = False
    draining: bool = False
    replaced: bool = False
    in_flight: int = 0
    orders: Orders | None = None
    statistics: SharedStatistics | None = None
    neighbours: Neighbours | None = None
    tracing: Tracing | None = None
