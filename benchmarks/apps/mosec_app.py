"""mosec: its Rust front end, and two Python workers that decode and infer, batched or not."""

from __future__ import annotations

import sys
from typing import Any

import orjson
from mosec import Server, ValidationError, Worker

from benchmarks.apps.pipeline import Pipeline

WORKERS = 2
MAX_BATCH = 16
MAX_WAIT = 1  # ms: how long mosec gathers; the least that it takes


class _Bytes(Worker):
    def __init__(self) -> None:
        super().__init__()
        self.pipeline = Pipeline()

    def deserialize(self, data: bytes) -> bytes:
        return data

    def serialize(self, data: Any) -> bytes:
        return orjson.dumps(data)


class Single(_Bytes):
    """One picture at a time."""

    def forward(self, data: bytes) -> dict[str, Any]:
        try:
            return self.pipeline.classify(data)
        except ValueError as error:
            raise ValidationError(str(error)) from error


class Batched(_Bytes):
    """What gathered within `MAX_WAIT`."""

    def forward(self, data: list[bytes]) -> list[dict[str, Any]]:
        return self.pipeline.classify_many(data)


def main() -> None:
    """`PORT batched|single`: mosec reads its own flags, so they are put in their place."""
    port, mode = sys.argv[1:3]
    sys.argv[1:] = ["--address", "127.0.0.1", "--port", port, "--log-level", "warning"]
    server = Server()
    route = "/v1/classify"
    if mode == "batched":
        server.append_worker(
            Batched, num=WORKERS, max_batch_size=MAX_BATCH, max_wait_time=MAX_WAIT, route=route
        )
    else:
        server.append_worker(Single, num=WORKERS, route=route)
    server.run()


if __name__ == "__main__":
    main()
