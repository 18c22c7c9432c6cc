"""`flatfold export` as a function: checkpoint in, one proved .onnx file out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.assemble import assemble, write_card
from export.loading import save_model
from export.parity import check_parity
from export.precision.choose import convert, measure_speed
from flatfold import __version__
from flatfold.contract.errors import FlatfoldError
from training.checkpoint import load
from training.datasets import is_cifar10, load_datasets

if TYPE_CHECKING:
    import onnx

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
        data_dir: CIFAR-10's folder. fp32 uses it for the parity check, and does without.
        max_accuracy_drop: largest loss of test accuracy against fp32, in points of 100.
        measure_speed: measure images per second and write them into the card, which makes the
            file differ from run to run.
    """

    precision: str = "fp32"
    data_dir: Path | None = None
    max_accuracy_drop: float = 0.3
    measure_speed: bool = False


@dataclass(frozen=True)
class Exported:
    """What an export did: the card in the file, the fold's report and the proof against PyTorch."""

    card: Card
    report: FoldReport
    proof: Proof


def export_checkpoint(
    checkpoint: str | Path, output: str | Path, settings: ExportSettings
) -> Exported:
    """Write `checkpoint` as one .onnx file at `output`, or leave `output` as it was.

    Raises:
        FlatfoldError: unreadable checkpoint, a network that cannot be exported, a failed proof,
            or a path that cannot be written.
    """
    loaded = load(checkpoint)
    assembled = assemble(loaded.network, loaded.card)
    pictures = None
    if settings.data_dir is not None:
        pictures = _datasets(loaded.card, settings.data_dir)[1].images[:PROOF_PICTURES]
    proof = check_parity(loaded.network, assembled.model, loaded.card, images=pictures)
    card = replace(
        loaded.card,
        precision=settings.precision,
        provenance=loaded.card.provenance | _provenance(Path(checkpoint)),
        proof=proof_entry(proof, assembled.report),
    )
    model = assembled.model
    if settings.precision != "fp32":
        train, test = _datasets(card, settings.data_dir)
        chosen = convert(model, settings.precision, train, test, settings.max_accuracy_drop)
        model = chosen.model
        card = replace(card, accuracy=card.accuracy | chosen.accuracy)
    if settings.measure_speed:
        card = replace(card, speed=measure_speed(model, assembled.unfolded))
    write(model, card, output)
    return Exported(card, assembled.report, proof)


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


def write(model: onnx.ModelProto, card: Card, output: str | Path) -> None:
    """Write the finished model with its card, whole or not at all."""
    write_card(model, card)
    save_model(model, output)


def proof_entry(proof: Proof, report: FoldReport) -> dict[str, Any]:
    """Return what the card says of the proof.

    The error itself stays out: its last digits depend on the processor, and the file must not.
    """
    return {
        "against": "PyTorch, eval mode, float64",
        "samples": proof.samples,
        "pictures": proof.images,
        "error_below": proof.tolerance,
        "top1_agreement": proof.top1_agreement,
        "batch_norms_folded": len(report.folded),
        "batch_norms_kept": len(report.kept),
    }


def _provenance(checkpoint: Path) -> dict[str, str]:
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    return {"checkpoint_sha256": digest, "exporter": f"flatfold {__version__}"}
