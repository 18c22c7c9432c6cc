"""LitServe: two workers, batched or not; raw bodies, its fast queue, one API process."""

import sys
from typing import Annotated, Any

import litserve
from fastapi import Body

from benchmarks.apps.pipeline import Pipeline

WORKERS = 2
MAX_BATCH = 8
BATCH_TIMEOUT = 0.001  # seconds
PATH = "/v1/classify"


class Single(litserve.LitAPI):
    """One picture at a time."""

    def setup(self, device: str) -> None:
        del device
        self.pipeline = Pipeline()

    # The annotation makes FastAPI hand over the raw body: no JSON, no base64.
    def decode_request(self, request: Annotated[bytes, Body()]) -> bytes:
        return request

    def predict(self, x: Any) -> Any:
        return self.pipeline.classify(x)

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output


class Batched(Single):
    """What gathered within `BATCH_TIMEOUT`."""

    def batch(self, inputs: list[bytes]) -> list[bytes]:
        return inputs

    def predict(self, x: Any) -> Any:
        return self.pipeline.classify_many(x)

    def unbatch(self, output: list[Any]) -> list[Any]:
        return output


def main() -> None:
    """`PORT batched|single`."""
    port, mode = sys.argv[1:3]
    if mode == "batched":
        api: litserve.LitAPI = Batched(
            max_batch_size=MAX_BATCH, batch_timeout=BATCH_TIMEOUT, api_path=PATH
        )
    else:
        api = Single(api_path=PATH)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=WORKERS, fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=int(port),
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )


if __name__ == "__main__":
    main()
