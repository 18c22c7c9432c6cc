"""One loaded model: an onnxruntime session that was checked and warmed, and its card."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from service.batch_size import ON_CPU, BatchError, worthwhile_batch
from service.elastic import ElasticSession
from service.executions import Executions
from service.graph import ModelError, check_card, read_card, read_tensors
from service.memory import give_back
from service.probe import ProbeError, probe
from service.runtime import ON_GPU, OpenSession, ProviderError, RuntimeOptions, open_session
from service.scores import probabilities

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from flatfold.contract.card import Card

__all__ = ["Model", "ModelError"]

logger = logging.getLogger(__name__)


class Model:
    """One onnxruntime session; safe to run from several threads at once.

    Attributes:
        name: the name it is served by.
        version: its version, a text of digits.
        path: the .onnx file.
        card: what the file says of itself; None for a plain ONNX file.
        inputs: the graph's inputs.
        outputs: the graph's outputs.
        output_names: their names.
        scores: the output that holds a score for each of the card's labels; "" without a card.
        provider: what runs it: cpu, cuda, tensorrt or openvino.
        batchable: rows of several requests may be stacked and run as one: there is one input with
            only its first axis variable, and rows were seen not to influence each other.
        max_batch: most rows in one call; 1 for a model that takes no batches.
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
        self.inputs = read_tensors(opened.session.get_inputs(), path)
        self.outputs = read_tensors(opened.session.get_outputs(), path)
        self.output_names = tuple(spec.name for spec in self.outputs)
        self.scores = ""
        self.batchable = False
        self.max_batch = 1
        self.executions = Executions()
        self._session = opened.session
        # The CPU provider reads NumPy's memory in place; a device wants its copies bound, and has
        # none of texts.
        self._device = "cuda" if opened.provider in ON_GPU else "cpu"
        texts = any(spec.datatype == "BYTES" for spec in (*self.inputs, *self.outputs))
        self._bound = self._device == "cuda" and not texts
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
        opened = _open(path, runtime or RuntimeOptions())
        try:
            own = read_card(opened.session, path)
            name = name or _own_name(own, path)
            model = cls(opened, path, name=name, version=version, card=own or card)
        except UnicodeDecodeError as error:  # onnxruntime opens such a file
            raise ModelError(f"{path} is damaged: a text in it is not UTF-8: {error}") from error
        model._try()
        logger.info(
            "model %s version %s runs on %s (onnxruntime %s)",
            model.name,
            version,
            model.provider,
            onnxruntime.__version__,
        )
        return model

    def _try(self) -> None:
        """Find out by runs on zeros what the graph alone does not say, and whether it runs at all.

        Raises:
            ModelError: it does not, or its card does not fit its graph.
        """
        if not self.inputs:
            raise ModelError(f"{self.path} has no input: there is nothing to ask it")
        if self.card is not None:
            self.scores = check_card(self.card, self.path, self.inputs, self.outputs)
        try:
            self.batchable = probe(self.inputs, self.outputs, self.run)
        except ProbeError as error:
            raise ModelError(f"{self.path} loads but does not run: {error}") from error
        if self.card is not None:
            self._try_picture(self.card)
        self.executions = Executions()  # without these runs

    def _try_picture(self, card: Card) -> None:
        """Score a picture of the card's size: free sizes leave open whether that goes.

        Raises:
            ModelError: it does not run, or gives another number of scores than the card's labels.
        """
        try:
            zeros = np.zeros((1, card.height, card.width, 3), np.uint8)
            arrays = self.run({self.inputs[0].name: zeros}, [self.scores])
            probabilities(arrays, self.scores, len(card.labels))
        except Exception as error:
            raise ModelError(
                f"{self.path} loads but does not score a picture of {card.height}x{card.width}: "
                f"{error}"
            ) from error

    def warm_up(self, max_batch: int) -> None:
        """Settle how many rows a call takes, and have memory and kernels in place for them.

        Args:
            max_batch: most rows in one call; 0 for what the provider makes worthwhile.

        Raises:
            ModelError: it does not run a batch of one, or of `max_batch`.
        """
        if not self.batchable:
            return
        try:
            self._seconds(1)
            if max_batch == 0 and self._bound:
                max_batch = worthwhile_batch(lambda rows: min(map(self._seconds, [rows] * 3)))
                logger.info("model %s takes batches of up to %s", self.name, max_batch)
            self.max_batch = max_batch or ON_CPU
            self._seconds(self.max_batch)
        except BatchError as error:
            raise ModelError(str(error)) from error
        self.executions = Executions()

    def widen(self) -> None:
        """Have all cores for a request while other processes have nothing to do, where that goes.

        Blocks, and is not needed to serve: the start of a server does not wait for it.
        """
        if not isinstance(self._session, ElasticSession):
            return
        batches = {1, self.max_batch} if self.batchable else ()
        try:
            if self._session.widen(self._zeros(rows) for rows in batches):
                give_back()
                logger.info("model %s takes all cores while other processes are idle", self.name)
        except Exception as error:  # noqa: BLE001 (onnxruntime's exceptions share no base class)
            logger.warning("model %s keeps to its share of the cores: %s", self.name, error)

    def _zeros(self, rows: int) -> dict[str, NDArray[Any]]:
        spec = self.inputs[0]
        return {spec.name: np.zeros((rows, *spec.shape[1:]), spec.dtype)}

    def _seconds(self, rows: int) -> float:
        """Return the seconds that a batch of `rows` rows of zeros takes."""
        try:
            zeros = self._zeros(rows)
            started = perf_counter_ns()
            self.run(zeros)
        except Exception as error:
            raise BatchError(f"{self.path} does not run a batch of {rows}: {error}") from error
        return (perf_counter_ns() - started) / 1e9

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
        # Without batches the first axis is any size at all: a sentence's length, say.
        rows = len(next(iter(feeds.values()))) if self.batchable else 1
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


def _open(path: Path, options: RuntimeOptions) -> OpenSession:
    """Open the file with onnxruntime.

    Raises:
        ModelError: there is no such file, or it is no model.
        ProviderError: the explicit provider does not run here.
    """
    if not path.is_file():
        raise ModelError(f"no model at {path}: expected an .onnx file")
    try:
        return open_session(path, options)
    except ProviderError:
        raise
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        raise ModelError(
            f"{path} is not a model that onnxruntime reads (--provider {options.provider}): {error}"
        ) from error


def _own_name(card: Card | None, path: Path) -> str:
    """Return the name of a file that nobody named: its card's, or else the file's stem.

    Raises:
        ModelError: no address leads to it.
    """
    name = (card and card.name) or path.stem
    if "/" in name:
        raise ModelError(
            f"{path}: its card names it {name!r}, and no address leads to a name with a '/': "
            "put the file into a folder, where its file name counts, and serve the folder"
        )
    return name
