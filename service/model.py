"""One loaded model: an onnxruntime session that was checked and warmed, and its card."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from flatfold.contract.card import CARD_KEY, Card, CardError
from flatfold.contract.errors import FlatfoldError
from service.executions import Executions
from service.probe import ProbeError, probe
from service.runtime import OpenSession, ProviderError, RuntimeOptions, open_session
from service.tensors import VARIABLE, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

logger = logging.getLogger(__name__)


class ModelError(FlatfoldError):
    """This file cannot be served: unreadable, broken, or not what its card says."""


class Model:
    """One onnxruntime session; safe to run from several threads at once.

    Attributes:
        name: the name it is served by.
        version: its version, a text of digits.
        path: the .onnx file.
        card: what the file says of itself; None for a plain ONNX file.
        inputs: the graph's inputs.
        outputs: the graph's outputs.
        provider: what runs it: cpu, cuda, tensorrt or openvino.
        batchable: rows of several requests may be stacked and run as one: there is one input with
            only its first axis variable, and rows were seen not to influence each other.
        executions: counts and times of the runs.
    """

    def __init__(
        self,
        opened: OpenSession,
        path: Path,
        *,
        name: str,
        version: str,
        card: Card | None,
    ) -> None:
        self.name = name
        self.version = version
        self.path = path
        self.card = card
        self.provider = opened.provider
        self.inputs = _specs(opened.session.get_inputs(), path)
        self.outputs = _specs(opened.session.get_outputs(), path)
        self.output_names = tuple(spec.name for spec in self.outputs)
        self.batchable = False
        self.executions = Executions()
        self._session = opened.session
        # The CPU provider reads NumPy's memory in place; a device wants its copies bound.
        self._device = "cuda" if opened.provider in ("cuda", "tensorrt") else "cpu"
        self._bound = self._device == "cuda"
        self._bound_lock = threading.Lock()

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        name: str | None = None,
        version: str = "1",
        runtime: RuntimeOptions | None = None,
        card: Card | None = None,
    ) -> Model:
        """Open, check and warm one .onnx file.

        Args:
            path: the file.
            name: name to serve it by; the card's name or the file's stem when None.
            version: its version.
            runtime: provider and threads.
            card: labels and size for a file that has no card of its own.

        Raises:
            ModelError: unreadable, not runnable, or its card does not fit its graph.
            ProviderError: the explicit provider does not run here.
        """
        path = Path(path)
        if not path.is_file():
            raise ModelError(f"no model at {path}: expected an .onnx file")
        try:
            opened = open_session(path, runtime or RuntimeOptions())
        except ProviderError:
            raise
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            raise ModelError(f"{path} is not a model that onnxruntime reads: {error}") from error
        own = _read_card(opened.session, path)
        name = name or (own.name if own else path.stem)
        card = own or card
        model = cls(opened, path, name=name, version=version, card=card)
        if not model.inputs:
            raise ModelError(f"{path} has no input: there is nothing to ask it")
        if card is not None:
            _check_card(card, model)
        try:
            model.batchable = probe(model.inputs, model.outputs, model.run)
        except ProbeError as error:
            raise ModelError(f"{path} loads but does not run: {error}") from error
        model.executions = Executions()  # without the probe's own
        logger.info(
            "model %s version %s runs on %s (onnxruntime %s)",
            model.name,
            version,
            model.provider,
            onnxruntime.__version__,
        )
        return model

    def warm_up(self, batch_sizes: Sequence[int]) -> None:
        """Run zeros once for each batch size, so that memory and kernels are in place."""
        if not self.batchable:
            return
        spec = self.inputs[0]
        for size in batch_sizes:
            self.run({spec.name: np.zeros((size, *spec.shape[1:]), spec.dtype)})
        self.executions = Executions()

    def run(
        self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Run the graph; blocks, and releases the GIL while it computes.

        Args:
            feeds: input name -> array of that input's dtype and shape.
            outputs: names wanted; all when None.

        Returns:
            Output name -> array, in the order asked for.

        Raises:
            Exception: whatever onnxruntime raises; its classes share no base.
        """
        names = self.output_names if outputs is None else tuple(outputs)
        started = perf_counter_ns()
        arrays = self._run_bound(feeds, names) if self._bound else self._session.run(names, feeds)
        rows = _rows(feeds)
        self.executions.add(rows, perf_counter_ns() - started)
        return dict(zip(names, arrays, strict=True))

    def _run_bound(self, feeds: Mapping[str, NDArray[Any]], names: Sequence[str]) -> list[Any]:
        """Run with inputs and outputs bound to the device: one copy in, one copy out, no more."""
        binding = self._session.io_binding()
        for name, array in feeds.items():
            value = onnxruntime.OrtValue.ortvalue_from_numpy(
                np.ascontiguousarray(array), self._device
            )
            binding.bind_ortvalue_input(name, value)
        for name in names:
            binding.bind_output(name, self._device)
        with self._bound_lock:  # a CUDA session runs on one stream anyway
            self._session.run_with_iobinding(binding)
        arrays: list[Any] = binding.copy_outputs_to_cpu()
        return arrays


def _rows(feeds: Mapping[str, NDArray[Any]]) -> int:
    """Return the batch size: the first axis of the first input, 1 for a scalar."""
    first = next(iter(feeds.values()), None)
    return int(first.shape[0]) if first is not None and first.ndim else 1


def _specs(nodes: Sequence[Any], path: Path) -> tuple[TensorSpec, ...]:
    specs = []
    for node in nodes:
        spec = TensorSpec.from_onnx(node.name, node.type, node.shape)
        if spec is None:
            raise ModelError(
                f"{path}: {node.name!r} is a {node.type}, which the protocol cannot carry; "
                "export the model so that its inputs and outputs are plain tensors"
            )
        specs.append(spec)
    return tuple(specs)


def _read_card(session: onnxruntime.InferenceSession, path: Path) -> Card | None:
    text = session.get_modelmeta().custom_metadata_map.get(CARD_KEY)
    if text is None:
        return None
    try:
        return Card.from_json(text)
    except (CardError, TypeError) as error:
        raise ModelError(f"{path}: {error}") from error


def _check_card(card: Card, model: Model) -> None:
    """Check that the graph takes pictures of the card's size and scores the card's labels."""
    wanted = (1, card.height, card.width, 3)
    if len(model.inputs) != 1 or not (
        model.inputs[0].datatype == "UINT8" and model.inputs[0].accepts(wanted)
    ):
        raise ModelError(
            f"{model.path}: its card promises one input UINT8 [-1, {card.height}, {card.width}, 3]"
            f"; the graph has {', '.join(map(str, model.inputs))}"
        )
    classes = len(card.labels)
    if not any(
        len(spec.shape) == 2 and spec.shape[1] in (classes, VARIABLE) for spec in model.outputs
    ):
        raise ModelError(
            f"{model.path}: its card names {classes} labels; no output has that many columns: "
            f"{', '.join(map(str, model.outputs))}"
        )
