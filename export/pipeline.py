"""`flatfold export` as a function: checkpoint in, one proved .onnx file out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.assemble import assemble, write_card
from export.loading import save_model
from export.parity import check_parity
from flatfold import __version__
from training.checkpoint import load
from training.data import load_cifar10

if TYPE_CHECKING:
    import onnx

    from export.comparison import Proof
    from export.report import FoldReport
    from flatfold.contract.card import Card

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
        pictures = load_cifar10(settings.data_dir, train=False).images[:PROOF_PICTURES]
    proof = check_parity(loaded.network, assembled.model, loaded.card, images=pictures)
    card = replace(
        loaded.card,
        precision=settings.precision,
        provenance=loaded.card.provenance | _provenance(Path(checkpoint)),
        proof=proof_entry(proof, assembled.report),
    )
    model = assembled.model
    write(model, card, output)
    return Exported(card, assembled.report, proof)


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
