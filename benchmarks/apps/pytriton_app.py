"""Triton through pytriton: its C++ front end and batcher, two Python instances of onnxruntime."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from benchmarks.apps.pipeline import Pipeline

INSTANCES = 2
MAX_BATCH = 16
NAME = "cifar10"  # as in contenders.py


def _infer_function() -> Any:
    pipeline = Pipeline()

    @batch
    def infer(images: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
        return [pipeline.infer(images)]

    return infer


def main() -> None:
    """`PORT`."""
    port = int(sys.argv[1])
    config = TritonConfig(
        http_address="127.0.0.1", http_port=port, allow_grpc=False, allow_metrics=False
    )
    with Triton(config=config) as triton:
        pipeline = Pipeline()
        triton.bind(
            model_name=NAME,
            infer_func=[_infer_function() for _ in range(INSTANCES)],
            inputs=[Tensor(name="images", dtype=np.uint8, shape=(*pipeline.size, 3))],
            outputs=[Tensor(name="probabilities", dtype=np.float32, shape=(len(pipeline.labels),))],
            config=ModelConfig(
                max_batch_size=MAX_BATCH, batcher=DynamicBatcher(max_queue_delay_microseconds=0)
            ),
        )
        triton.serve()


if __name__ == "__main__":
    main()
