"""How onnxruntime runs a model: the execution provider, its threads, its options.

An explicit provider that is missing is an error, never a silent fall back to the CPU.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import onnxruntime

from flatfold.contract.errors import FlatfoldError
from service.elastic import ElasticSession
from service.stamp import stamp

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from service.stamp import Stamp

PROVIDERS: dict[str, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}
CHOICES = ("auto", *PROVIDERS)
CONVERTING = ("tensorrt",)  # compute in float16 what the file holds in float32
ON_GPU = ("cuda", "tensorrt")
# Tried in this order by "auto". TensorRT is left out: it builds an engine for minutes at each
# start, which nobody expects unasked.
AUTOMATIC = ("cuda", "openvino", "cpu")
# Every build of onnxruntime writes the same files: whichever is installed last wins, which pip
# does not promise to be the one that was asked for. So the other one has to go first.
_INSTEAD = "pip uninstall onnxruntime, then pip install"
REMEDIES: dict[str, str] = {
    "cuda": f"{_INSTEAD} 'onnxruntime-gpu[cuda,cudnn]' and check nvidia-smi, or --provider cpu",
    "tensorrt": f"{_INSTEAD} onnxruntime-gpu and TensorRT's libraries, or --provider cuda",
    "openvino": f"{_INSTEAD} onnxruntime-openvino, or --provider cpu",
}

logger = logging.getLogger(__name__)


class ProviderError(FlatfoldError):
    """The execution provider that was asked for cannot run here."""


@dataclass(frozen=True, kw_only=True)
class RuntimeOptions:
    """How sessions are made.

    Attributes:
        provider: one of `CHOICES`.
        intra_op_threads: threads inside one operator on the CPU; 0 for one a core.
        half_precision: compute in float16 whatever the file says; TensorRT can. The others keep
            to the file, which `flatfold export --precision fp16` writes in float16.
        all_cores: threads on the CPU while `alone` says True; of no effect where that is None.
        alone: whether the server's other processes have nothing to do.
    """

    provider: str = "auto"
    intra_op_threads: int = 0
    half_precision: bool = False
    all_cores: int = 0
    alone: Callable[[], bool] | None = None


@dataclass(frozen=True)
class OpenSession:
    """An onnxruntime session and the provider that runs it, a key of `PROVIDERS`."""

    session: onnxruntime.InferenceSession | ElasticSession
    provider: str


def open_session(path: Path, options: RuntimeOptions) -> OpenSession:
    """Open one .onnx file.

    Raises:
        ProviderError: the explicit provider is unknown, not installed or does not start, or what
            runs cannot compute in the precision asked for.
        Exception: whatever onnxruntime raises for a file that it cannot read.
    """
    seen = stamp(path)
    candidates = provider_candidates(options.provider, onnxruntime.get_available_providers())
    for name in candidates:
        session = _try_provider(path, name, options, last=name == candidates[-1])
        # onnxruntime itself falls back when a provider's libraries do not load: look what it took.
        if session is not None and PROVIDERS[name] in session.get_providers():
            _check_precision(name, options)
            return OpenSession(_elastic(session, path, name, options, seen), name)
        if options.provider != "auto" and session is not None:
            raise ProviderError(
                f"--provider {name} did not start: onnxruntime fell back to "
                f"{', '.join(session.get_providers())} (its own message is above); "
                f"{REMEDIES[name]}"
            )
        logger.warning("provider %s is installed but did not start; trying the next", name)
    raise ProviderError("onnxruntime has no CPU provider; install the onnxruntime package again")


def _elastic(
    session: onnxruntime.InferenceSession,
    path: Path,
    name: str,
    options: RuntimeOptions,
    seen: Stamp,
) -> onnxruntime.InferenceSession | ElasticSession:
    """Return the session, joined by one on all cores where there are cores to be had."""
    if options.alone is None or name != "cpu" or options.all_cores <= options.intra_op_threads:
        return session

    def open_whole() -> onnxruntime.InferenceSession:
        wide = replace(options, intra_op_threads=options.all_cores)
        whole = onnxruntime.InferenceSession(
            path, _session_options(wide), providers=_with_cpu(name, wide)
        )
        if stamp(path) != seen:  # two versions would answer in turns
            raise ProviderError(f"{path} has changed since it was loaded")
        return whole

    return ElasticSession(session, open_whole, options.alone)


def _try_provider(
    path: Path, name: str, options: RuntimeOptions, *, last: bool
) -> onnxruntime.InferenceSession | None:
    """Return a session; None where its provider failed and another one is left to try."""
    if name in ON_GPU:
        _load_cuda()
    try:
        return onnxruntime.InferenceSession(
            path, _session_options(options), providers=_with_cpu(name, options)
        )
    except Exception:
        if last:
            raise
        logger.debug("provider %s failed", name, exc_info=True)
        return None


@functools.cache
def _load_cuda() -> None:
    """Load CUDA's and cuDNN's libraries where pip put them, which the loader does not search.

    onnxruntime prints which ones it does not find. They may be in the system's folders all the
    same, so that it is nothing to tell before the provider fails.
    """
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        onnxruntime.preload_dlls()
    logger.debug("loading CUDA: %s", said.getvalue() or "all found")


def provider_candidates(choice: str, available: list[str]) -> tuple[str, ...]:
    """Return the providers to try, in order.

    Args:
        choice: one of `CHOICES`.
        available: what onnxruntime says it was built with.

    Raises:
        ProviderError: `choice` is unknown or not in `available`.
    """
    if choice == "auto":
        return tuple(name for name in AUTOMATIC if PROVIDERS[name] in available)
    if choice not in PROVIDERS:
        raise ProviderError(f"--provider must be one of {', '.join(CHOICES)}; got {choice!r}")
    if PROVIDERS[choice] not in available:
        raise ProviderError(
            f"--provider {choice} needs onnxruntime with {PROVIDERS[choice]}; this one "
            f"({onnxruntime.__version__}) has {', '.join(available)}; {REMEDIES.get(choice, '')}"
        )
    return (choice,)


def _check_precision(name: str, options: RuntimeOptions) -> None:
    if options.half_precision and name not in CONVERTING:
        raise ProviderError(
            f"--precision fp16 needs --provider {' or '.join(CONVERTING)}; {name} computes in the "
            "file's own precision: flatfold export --precision fp16 writes such a file"
        )


def _with_cpu(name: str, options: RuntimeOptions) -> list[Any]:
    """Return onnxruntime's providers argument: the one, then the CPU for operators it lacks."""
    chosen: Any = PROVIDERS[name]
    if name == "cuda":
        # The default, EXHAUSTIVE, times every algorithm anew for each batch size that comes by.
        chosen = (chosen, {"cudnn_conv_algo_search": "HEURISTIC"})
    elif name == "tensorrt":
        chosen = (chosen, {"trt_fp16_enable": options.half_precision})
    elif name == "openvino":
        chosen = (chosen, {"device_type": "CPU"} | _openvino_threads(options))
    return [chosen] if name == "cpu" else [chosen, PROVIDERS["cpu"]]


def _openvino_threads(options: RuntimeOptions) -> dict[str, str]:
    """Return OpenVINO's own option for its threads, which does not heed onnxruntime's."""
    threads = options.intra_op_threads
    return {"num_of_threads": str(threads)} if threads else {}


def _session_options(options: RuntimeOptions) -> onnxruntime.SessionOptions:
    session_options = onnxruntime.SessionOptions()
    session_options.intra_op_num_threads = options.intra_op_threads
    session_options.inter_op_num_threads = 1
    # Spinning threads would take the cores that decoding and HTTP need (docs/serving-choices.md).
    session_options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session_options.log_severity_level = 3  # errors; they come back as exceptions as well
    return session_options
