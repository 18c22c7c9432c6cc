"""Prove that two models compute the same: same inputs, both run as written, outputs compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import onnx

from export.comparison import NOISE_CAP, Outputs, Proof, ProofError, compare
from export.float64 import run_float64
from export.graph_shapes import bodies
from export.runtime import RuntimeRefusedError, optimised_session, run, unoptimised_session
from export.samples import DYNAMIC_SIZES, Feeds, image_feeds, input_specs, random_feeds
from export.tensors import inner_tensors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import onnxruntime
    from numpy.typing import NDArray

Model: TypeAlias = "onnx.ModelProto | str | Path"

# Largest error by the narrowest float type, in parts of a channel's RMS: a few dozen roundings.
TOLERANCES = {"float64": 1e-10, "float32": 1e-5, "float16": 2e-2}
STEPS = {"QuantizeLinear", "DynamicQuantizeLinear", "Round", "Floor", "Ceil"}
EXACT_ROWS = 8  # rows run in float64, in NumPy


def prove(  # noqa: PLR0913  each is one independent knob of the comparison
    original: Model,
    changed: Model,
    *,
    samples: int = 64,
    images: NDArray[np.uint8] | None = None,
    tolerance: float | None = None,
    seed: int = 0,
) -> Proof:
    """Run both models unoptimised on the same inputs and compare every output.

    Past the tolerance, a few rows are run in float64, if the model has such a form: there the two
    have to agree within the tolerance. Then the float32 runs may differ by a few times the
    original's own rounding: its difference from those rows, or from a run of all rows with
    onnxruntime's optimisations on, since ReLU may have left a channel nothing in the few. In a
    model that rounds to whole steps, as a quantised one does, a few values fall on the other side
    of a step: they are excused once float64 agrees.

    Args:
        original: the model to trust, in memory or as a path.
        changed: the model to judge.
        samples: random rows to draw; dynamic dimensions get small sizes.
        images: real pictures, uint8 (n, height, width, 3), added to the random rows.
        tolerance: largest error in parts of the channel's RMS; by default by the model's dtype.
        seed: of the random inputs.

    Raises:
        ProofError: past the tolerance, different inputs or outputs, or nothing finite to compare.
        RuntimeRefusedError: onnxruntime cannot load one of them.
        SampleError: no input can be made.
    """
    feeds, before = _run_original(original, samples, images, seed)
    after = _run_changed(changed, feeds)
    _check_types(before, after)
    limit = tolerance or default_tolerance(original, before)
    pictures = 0 if images is None else len(images)
    proof = compare(before, after, tolerance=limit, images=pictures)
    steps = _rounds_to_steps(original)
    if not proof.holds and (proof.worst.excess <= NOISE_CAP or steps):
        exact = _exact(original, changed, feeds[0], limit)
        again = _optimised(original, feeds)
        noise = [_fitting(few, before) for few in (exact, again) if few is not None]
        ties = steps and exact is not None
        proof = compare(before, after, tolerance=limit, images=pictures, noise=noise, ties=ties)
    if not proof.holds:
        raise ProofError(f"the changed model computes something else: {proof.summary()}", proof)
    return proof


def _optimised(model: Model, feeds: list[Feeds]) -> Outputs | None:
    """Return the outputs with onnxruntime's optimisations on, or None where those fail."""
    try:
        return _collect(optimised_session(model), feeds)
    except RuntimeRefusedError:
        return None


def _check_types(before: Outputs, after: Outputs) -> None:
    """Refuse other types of number: whoever reads the outputs relies on them.

    Raises:
        ProofError: names the output.
    """
    for name in before.keys() & after.keys():
        old, new = before[name].dtype.name, after[name].dtype.name
        if old != new:
            raise ProofError(f"output {name!r} is of {new} values, the original's of {old}")


def _exact(original: Model, changed: Model, feed: Feeds, tolerance: float) -> Outputs | None:
    """Return a few rows of the original in float64; None where it or the changed has no such form.

    Raises:
        ProofError: the two differ in float64, where rounding is no excuse.
    """
    free = all(not isinstance(dim, int) for dim in _first_dimensions(original))
    few = {name: value[:EXACT_ROWS] for name, value in feed.items()} if free else feed
    exact, changed_exact = run_float64(original, few), run_float64(changed, few)
    if exact is None or changed_exact is None:
        return None
    proof = compare(exact, changed_exact, tolerance=tolerance)
    if not proof.holds:
        raise ProofError(
            f"the changed model computes something else, in float64, too: {proof.summary()}", proof
        )
    return exact


def _first_dimensions(model: Model) -> list[int | str | None]:
    return [spec.shape[0] if spec.shape else 0 for spec in input_specs(unoptimised_session(model))]


def _rounds_to_steps(model: Model) -> bool:
    return any(node.op_type in STEPS for body, _ in bodies(_read(model)) for node in body.node)


def _read(model: Model) -> onnx.ModelProto:
    """Return the model without its external data."""
    if isinstance(model, onnx.ModelProto):
        return model
    return onnx.load_model(model, load_external_data=False)


def _fitting(few: Outputs, outputs: Outputs) -> Outputs:
    """Return those of `few` that are the first rows of an output, or all of them."""
    return {
        name: value
        for name, value in few.items()
        if name in outputs
        and value.ndim
        and value.shape[1:] == outputs[name].shape[1:]
        and len(value) <= len(outputs[name])
    }


def default_tolerance(model: Model, outputs: Outputs) -> float:
    """Return the tolerance of the narrowest float type that the model computes in."""
    kinds = {value.dtype.name for value in outputs.values()}
    read = _read(model)
    kinds |= {
        onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).name
        for tensor in (*read.graph.initializer, *inner_tensors(read))
    }
    if kinds & {"float16", "bfloat16"}:
        return TOLERANCES["float16"]
    return TOLERANCES["float64" if "float64" in kinds and "float32" not in kinds else "float32"]


def _run_original(
    model: Model, samples: int, images: NDArray[np.uint8] | None, seed: int
) -> tuple[list[Feeds], Outputs]:
    """Find a size of the dynamic dimensions that the original accepts; return feeds and outputs."""
    session = unoptimised_session(model)
    specs = input_specs(session)
    pictures = image_feeds(specs, images) if images is not None else []
    free = any(not isinstance(known, int) for spec in specs for known in spec.shape[1:])
    refusal: RuntimeRefusedError | None = None
    for size in DYNAMIC_SIZES if free else DYNAMIC_SIZES[:1]:
        feeds = random_feeds(specs, samples, size, np.random.default_rng(seed)) + pictures
        try:
            return feeds, _collect(session, feeds)
        except RuntimeRefusedError as error:
            refusal = refusal or error
    raise ProofError(f"no random input suits the original: {refusal}") from refusal


def _run_changed(model: Model, feeds: list[Feeds]) -> Outputs:
    session = unoptimised_session(model)
    wanted = {spec.name for spec in input_specs(session)}
    if wanted != feeds[0].keys():
        raise ProofError(f"the inputs differ: {sorted(feeds[0])} against {sorted(wanted)}")
    try:
        return _collect(session, feeds)
    except RuntimeRefusedError as error:
        raise ProofError(f"the changed model refuses what the original takes: {error}") from error


def _collect(session: onnxruntime.InferenceSession, feeds: list[Feeds]) -> Outputs:
    """Return every output, all runs in one array where their shapes allow that.

    What a model has found, as NonZero does, is of another size for each run: an array by itself.
    """
    names = [output.name for output in session.get_outputs()]
    found: dict[str, list[NDArray[Any]]] = {}
    for feed in feeds:
        for name, value in zip(names, run(session, feed), strict=True):
            for part, array in _arrays(name, value):
                found.setdefault(part, []).append(array)
    joined: Outputs = {}
    for name, arrays in found.items():
        if len({array.shape[1:] for array in arrays}) == 1:
            joined[name] = np.concatenate(arrays)
        else:
            joined |= {f"{name}, run {place}": array for place, array in enumerate(arrays)}
    return joined


def _arrays(name: str, value: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    """Name every array in an output, which may be a sequence or a map."""
    if isinstance(value, dict):
        parts: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list):
        parts = enumerate(value)
    else:
        yield name, np.atleast_1d(value)
        return
    for key, part in parts:
        yield from _arrays(f"{name}.{key}", part)
