"""Run a model in onnxruntime on one thread, as a rule exactly as it is written.

With its graph optimisations on, onnxruntime would fold batch norms by itself and hide a missed or
a wrong fold.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import onnxruntime

from flatfold.contract.errors import FlatfoldError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PROTOBUF_LIMIT = 2_000_000_000  # a message of 2 GiB and more cannot be handed over in memory
SILENT = 4  # onnxruntime's log level "fatal": what fails is raised, and raised is told once


class RuntimeRefusedError(FlatfoldError):
    """onnxruntime cannot load or run this model."""


def unoptimised_session(model: onnx.ModelProto | str | Path) -> onnxruntime.InferenceSession:
    """Open `model` (in memory, or a path, for external data) with graph optimisation disabled.

    Raises:
        RuntimeRefusedError: onnxruntime does not load it; the message carries its reason.
    """
    options = quiet_options()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return open_session(model, options)


def optimised_session(model: onnx.ModelProto | str | Path) -> onnxruntime.InferenceSession:
    """Open `model` as a server would, every graph optimisation on.

    Raises:
        RuntimeRefusedError: onnxruntime does not load it; the message carries its reason.
    """
    return open_session(model, quiet_options())


def quiet_options() -> onnxruntime.SessionOptions:
    """Return options for one thread and no log."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = SILENT
    return options


def open_session(
    model: onnx.ModelProto | str | Path, options: onnxruntime.SessionOptions
) -> onnxruntime.InferenceSession:
    """Open `model` on the CPU with these options.

    Raises:
        RuntimeRefusedError: onnxruntime does not load it; the message carries its reason.
    """
    with tempfile.TemporaryDirectory() as folder:
        source = _as_source(model, Path(folder))
        try:
            return onnxruntime.InferenceSession(
                source, sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's errors share no base of their own
            raise RuntimeRefusedError(
                f"onnxruntime cannot load the model: {reason(error)}"
            ) from error


def _as_source(model: onnx.ModelProto | str | Path, folder: Path) -> str | bytes:
    if isinstance(model, str | os.PathLike):
        return str(model)
    if model.ByteSize() < PROTOBUF_LIMIT:
        return bytes(model.SerializeToString())
    copy = onnx.ModelProto()
    copy.CopyFrom(model)  # onnx.save empties the tensors that it writes beside the model
    path = folder / "model.onnx"
    onnx.save_model(copy, path, save_as_external_data=True, location="weights")
    return str(path)


def run(
    session: onnxruntime.InferenceSession, feeds: dict[str, NDArray[np.generic]]
) -> list[NDArray[np.generic]]:
    """Return all outputs of one run, in the graph's order.

    Raises:
        RuntimeRefusedError: onnxruntime fails; the message carries its reason.
    """
    try:
        return list(session.run(None, feeds))
    except Exception as error:  # onnxruntime's errors share no base of their own
        raise RuntimeRefusedError(f"onnxruntime cannot run the model: {reason(error)}") from error


def reason(error: Exception) -> str:
    """Return onnxruntime's message in one line, without the number of the error before it."""
    text = " ".join(str(error).split())
    return text.split(" : ", 2)[-1] or type(error).__name__
