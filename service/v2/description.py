"""What the server and its models say of themselves: metadata, configuration, statistics."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from flatfold import __version__

if TYPE_CHECKING:
    from service.catalogue import Served
    from service.duration import Duration
    from service.tensors import TensorSpec

PLATFORM = "onnxruntime_onnx"  # Triton's name for it, which clients know
EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "statistics",
)
_DURATIONS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")


def server() -> dict[str, Any]:
    """Return the server's metadata."""
    return {"name": "flatfold", "version": __version__, "extensions": EXTENSIONS}


def metadata(served: Served, versions: tuple[str, ...]) -> dict[str, Any]:
    """Return a model's metadata; `versions` are all that are served."""
    return {
        "name": served.model.name,
        "versions": versions,
        "platform": PLATFORM,
        "inputs": [_tensor(spec) for spec in served.model.inputs],
        "outputs": [_tensor(spec) for spec in served.model.outputs],
    }


def config(served: Served) -> dict[str, Any]:
    """Return a model's configuration in Triton's form.

    With a `max_batch_size` above 0 the sizes leave the batch out, as in Triton.
    """
    model = served.model
    skip = 1 if model.batchable else 0
    return {
        "name": model.name,
        "platform": PLATFORM,
        "backend": "onnxruntime",
        "version_policy": {"all": {}},
        "max_batch_size": served.batcher.max_batch if model.batchable else 0,
        "input": [_configured(spec, skip) for spec in model.inputs],
        "output": [_configured(spec, skip) for spec in model.outputs],
    }


def statistics(served: Served) -> dict[str, Any]:
    """Return one entry of `model_stats`.

    Rows and runs are those of every route; `inference_stats` are those of infer requests.
    """
    model, totals = served.model, served.statistics
    batches = model.executions.by_rows()
    return {
        "name": model.name,
        "version": model.version,
        "last_inference": totals.last_inference,
        "inference_count": sum(rows * batch.count for rows, batch in batches.items()),
        "execution_count": sum(batch.count for batch in batches.values()),
        "inference_stats": {name: asdict(getattr(totals, name)) for name in _DURATIONS},
        "batch_stats": [_batch(rows, batch) for rows, batch in batches.items()],
    }


def _batch(rows: int, total: Duration) -> dict[str, Any]:
    nothing = {"count": 0, "ns": 0}  # input and output are copied as part of the run
    return {
        "batch_size": rows,
        "compute_input": nothing,
        "compute_infer": asdict(total),
        "compute_output": nothing,
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape}


def _configured(spec: TensorSpec, skip: int) -> dict[str, Any]:
    kind = "STRING" if spec.datatype == "BYTES" else spec.datatype
    return {"name": spec.name, "data_type": f"TYPE_{kind}", "dims": spec.shape[skip:]}
