"""`flatfold export` as a function: checkpoint in, one proved .onnx file out."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.assemble import assemble, write_card
from export.loading import save_model
from export.parity import check_parity
from export.precision.choose import convert
from export.precision.keep import check_names
from export.precision.measure import measure
from export.precision.pixels import float_detour
from flatfold import __version__
from flatfold.contract.errors import FlatfoldError, UsageError
from flatfold.contract.files import check_replaceable
from training.checkpoint import load
from training.data import find_cifar10
from training.datasets import is_cifar10, load_datasets

if TYPE_CHECKING:
    import onnx

    from export.assemble import Assembled
    from export.comparison import Proof
    from export.report import FoldReport
    from flatfold.contract.card import Card
    from training.data import Pictures

PRECISIONS = ("fp32", "fp16", "int8")
PROOF_PICTURES = 256  # test pictures in the parity check, where there is data


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """What the user may choose.

    Attributes:
        precision: fp32, fp16 or int8.
        data_dir: CIFAR-10's folder, or class folders of pictures. fp32 uses it for the parity
            check, and does without.
        max_accuracy_drop: largest loss of test accuracy against fp32, in points of 100; at least 0.
        measure_speed: measure images per second, and where there are pictures the accuracy, of
            every precision and write them into the card, which makes the file differ from run to
            run.
        keep_float: names of the nodes that int8 leaves in float.
    """

    precision: str = "fp32"
    data_dir: Path | None = None
    max_accuracy_drop: float = 0.3
    measure_speed: bool = False
    keep_float: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise a UsageError where the accuracy drop is no bound."""
        if not (math.isfinite(self.max_accuracy_drop) and self.max_accuracy_drop >= 0):
            raise UsageError(
                "--max-accuracy-drop must be a finite number of points, 0 or more; "
                f"got {self.max_accuracy_drop}"
            )


@dataclass(frozen=True)
class Exported:
    """What an export did.

    Attributes:
        card: as it is in the file.
        report: the fold's verdicts.
        proof: the comparison with PyTorch.
        notes: what the user may want to know besides, in sentences.
    """

    card: Card
    report: FoldReport
    proof: Proof
    notes: tuple[str, ...] = ()


def export_checkpoint(
    checkpoint: str | Path, output: str | Path, settings: ExportSettings
) -> Exported:
    """Write `checkpoint` as one .onnx file at `output`, or leave `output` as it was.

    Raises:
        FlatfoldError: unreadable checkpoint, a network that cannot be exported, a failed proof,
            or a path that cannot be written.
        UsageError: settings that do not go together, or `output` is the checkpoint itself.
    """
    if check_replaceable(output).resolve() == Path(checkpoint).resolve():
        raise UsageError(f"{output} is the checkpoint, which would be lost; choose another name")
    if settings.keep_float and settings.precision != "int8":
        raise UsageError(f"--keep-float is for --precision int8, not {settings.precision}")
    loaded = load(checkpoint)
    assembled = assemble(loaded.network, loaded.card)
    check_names(assembled.model, settings.keep_float)
    pictures = None
    if settings.data_dir is not None:
        pictures = _datasets(loaded.card, settings.data_dir)[1].images[:PROOF_PICTURES]
    proof = check_parity(loaded.network, assembled.model, loaded.card, images=pictures)
    card = replace(
        loaded.card,
        precision=settings.precision,
        provenance=loaded.card.provenance | _provenance(Path(checkpoint), settings.keep_float),
        proof=proof_entry(proof, assembled.report, settings.precision),
    )
    model, card, notes = _in_precision(assembled, card, settings)
    write(model, card, output)
    return Exported(card, assembled.report, proof, notes)


def _in_precision(
    assembled: Assembled, card: Card, settings: ExportSettings
) -> tuple[onnx.ModelProto, Card, tuple[str, ...]]:
    """Return the model as it is written, the card with what was measured, and notes."""
    precision = settings.precision
    models: dict[str, onnx.ModelProto] = {"fp32": assembled.model}
    accuracy: dict[str, float] = {}
    notes: tuple[str, ...] = ()
    pictures: tuple[Pictures, Pictures] | None
    if precision == "fp32" and not settings.measure_speed:
        return assembled.model, card, notes
    if precision != "fp32" or settings.data_dir is not None:
        pictures = _datasets(card, settings.data_dir)
    else:
        pictures = _cifar10_at_hand(card)
    if precision != "fp32" and pictures is not None:
        chosen = convert(
            assembled.model, precision, pictures, settings.max_accuracy_drop, settings.keep_float
        )
        models[precision], accuracy = chosen.model, chosen.accuracy
        detour = float_detour(chosen.model)
        notes = (detour,) if detour else ()
    if settings.measure_speed:
        measured = measure(models, assembled.unfolded, pictures, accuracy)
        accuracy, notes = measured.accuracy, notes + measured.notes
        card = replace(card, speed=measured.speed)
    if pictures is not None:
        figures = {f"test_top1_{name}": value for name, value in accuracy.items()}
        own = {"test_top1": accuracy[precision], "test_images": len(pictures[1])}
        card = replace(card, accuracy=card.accuracy | figures | own)
    return models[precision], card, notes


def _datasets(card: Card, data_dir: Path | None) -> tuple[Pictures, Pictures]:
    """Return training and test pictures of the classes that the card names.

    Raises:
        FlatfoldError: there are none, or they have other classes.
    """
    size = card.height if data_dir is not None and not is_cifar10(data_dir) else None
    train, test = load_datasets(data_dir, size=size)
    if train.names != card.labels:
        raise FlatfoldError(
            f"the pictures' classes are {', '.join(train.names)}; the checkpoint's are "
            f"{', '.join(card.labels)}: give its own pictures with --data-dir"
        )
    return train, test


def _cifar10_at_hand(card: Card) -> tuple[Pictures, Pictures] | None:
    """Return pictures that nobody named, if they are there and fit: figures need no download."""
    if find_cifar10() is None:
        return None
    try:
        return _datasets(card, None)
    except FlatfoldError:
        return None


def write(model: onnx.ModelProto, card: Card, output: str | Path) -> None:
    """Write the finished model with its card, whole or not at all."""
    write_card(model, card)
    save_model(model, output)


def proof_entry(proof: Proof, report: FoldReport, precision: str) -> dict[str, Any]:
    """Return what the card says of the proof, which is of fp32 whatever is made of that later.

    The error itself stays out: its last digits depend on the processor, and the file must not.
    """
    return ({} if precision == "fp32" else {"precision": "fp32"}) | {
        "against": "PyTorch, eval mode, float64",
        "samples": proof.samples,
        "pictures": proof.images,
        "error_below": proof.tolerance,
        "top1_agreement": proof.top1_agreement,
        "batch_norms_folded": len(report.folded),
        "batch_norms_kept": len(report.kept),
    }


def _provenance(checkpoint: Path, keep_float: tuple[str, ...]) -> dict[str, Any]:
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    entry = {"checkpoint_sha256": digest, "exporter": f"flatfold {__version__}"}
    return entry | ({"kept_in_float": sorted(keep_float)} if keep_float else {})
