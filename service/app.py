"""The application: state, routes and the gate in front of them, put together."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flatfold.contract.card import Card
from flatfold.contract.errors import UsageError
from service.auth import Guard
from service.batcher import Batcher
from service.config import keys
from service.cores import usable_cores
from service.decode import Decoder
from service.framework import LazyFramework
from service.gate import Gate
from service.hot import find_hot
from service.logs import silence_libtiff
from service.metrics import Metrics
from service.neighbours import Neighbours
from service.repository import Repository
from service.runtime import RuntimeOptions
from service.shared import shared_folder
from service.state import State
from service.tracing import make_tracing

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from starlette.types import ASGIApp

    from service.config import Settings
    from service.model import Model

# What a process with one core may compute in its event loop: about as long as it decodes there. A
# hop to a thread and back costs a tenth of it and more.
INLINE_SECONDS = 0.002

logger = logging.getLogger(__name__)


def build_app(settings: Settings) -> tuple[ASGIApp, State]:
    """Return the ASGI application and its state; `state.repository.open()` loads the models.

    Raises:
        UsageError: the labels file cannot be read.
    """
    state = build_state(settings)
    guard = Guard(keys(settings.api_keys), keys(settings.admin_keys))
    gate = Gate(LazyFramework(state), state, find_hot, guard)
    if not settings.cors:
        return gate, state
    from service.cors import Cors  # noqa: PLC0415 (slow, and seldom needed)

    return Cors(gate, keys(settings.cors), state), state


def build_state(settings: Settings) -> State:
    """Return the service's parts, nothing of them running yet."""
    silence_libtiff()
    cores = usable_cores()
    share = max(1, cores // max(1, settings.workers))
    threads = settings.threads or share
    folder = shared_folder() if settings.workers > 1 else None
    neighbours = None if folder is None else Neighbours(folder)
    metrics = Metrics()

    def make_batcher(model: Model) -> Batcher:
        name = model.inputs[0].name

        def run(rows: NDArray[Any]) -> dict[str, NDArray[Any]]:
            return model.run({name: rows})

        batcher = Batcher(
            run,
            max_batch=model.max_batch,
            max_queue=settings.max_queue,
            on_batch=lambda rows, seconds, wait: metrics.batch(model.name, rows, seconds, wait),
            name=model.name,
        )
        batcher.inline = INLINE_SECONDS if share == 1 else 0.0
        return batcher

    repository = Repository(
        [Path(path) for path in settings.models] or [default_model()],
        make_batcher,
        runtime=RuntimeOptions(
            provider=settings.provider,
            intra_op_threads=threads,
            half_precision=settings.precision == "fp16",
            # Who names a number of threads gets that number.
            all_cores=threads if settings.threads else cores,
            alone=None if neighbours is None else neighbours.idle,
        ),
        card=_card_from_flags(settings),
        default=settings.default_model or None,
        max_batch=settings.max_batch,
    )
    decoders = ThreadPoolExecutor(cores, thread_name_prefix="decode")
    decoder = Decoder(decoders, settings.max_pixels, one_core=share == 1)
    return State(
        settings, repository, metrics, decoder, neighbours=neighbours, tracing=make_tracing()
    )


def default_model() -> Path:
    """Return the model that ships inside the package."""
    return Path(str(resources.files("flatfold") / "models" / "cifar10.onnx"))


def _card_from_flags(settings: Settings) -> Card | None:
    if not settings.labels:
        return None
    try:
        labels = tuple(Path(settings.labels).read_text(encoding="utf-8-sig").split("\n"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"cannot read the labels {settings.labels}: {reason}") from error
    labels = tuple(label.strip() for label in labels if label.strip())
    if not labels:
        raise UsageError(f"{settings.labels} has no labels; expected one a line")
    side = settings.image_size
    return Card(name="model", labels=labels, height=side, width=side)
