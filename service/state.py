"""What the running service consists of, in one place: built by the app, read by the routes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from service.config import Settings
    from service.metrics import Metrics
    from service.repository import Repository


@dataclass(slots=True)
class State:
    """One server process.

    Attributes:
        settings: as it was started.
        repository: the models.
        metrics: counters and histograms of the whole server.
        decoders: threads that decode large pictures.
        ready: whether /v2/health/ready says yes; set once the models are loaded.
        draining: SIGTERM came: nothing new is promised, what is there is finished.
        in_flight: requests being handled.
    """

    settings: Settings
    repository: Repository
    metrics: Metrics
    decoders: ThreadPoolExecutor
    ready: bool = False
    draining: bool = False
    in_flight: int = 0
