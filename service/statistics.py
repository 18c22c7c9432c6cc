"""What a model's requests cost so far, as the protocol's statistics extension counts it."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import perf_counter_ns, time

from service.duration import Duration


@dataclass(slots=True)
class Statistics:
    """Totals of one model version's infer requests; written by the event loop's thread alone.

    Attributes:
        last_inference: milliseconds since 1970 of the last request of any route; 0 before it.
        success: whole requests that were answered.
        fail: whole requests that got an error, or whose client left.
        queue: waiting for the runtime: a request's time from queue to result, less the run's.
        compute_input: decoding requests.
        compute_infer: running the model.
        compute_output: encoding answers.
    """

    last_inference: int = 0
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)

    def inferred(self, since: int, execution_ns: int) -> int:
        """Count one request that was queued at `since` and has its result; return the time now.

        Args:
            since: a time on `perf_counter_ns`.
            execution_ns: how long the runs took that this request had rows in.
        """
        now = perf_counter_ns()
        execution_ns = min(execution_ns, now - since)
        self.compute_infer.add(execution_ns)
        self.queue.add(now - since - execution_ns)
        return now

    def answered(self, ns: int) -> None:
        """Count one request that was answered."""
        self.success.add(ns)
        self.asked()

    def failed(self, ns: int) -> None:
        """Count one request that got an error, or whose client left."""
        self.fail.add(ns)
        self.asked()

    def asked(self) -> None:
        """Note that a request came just now, by whichever route."""
        self.last_inference = int(time() * 1000)
