"""`flatfold export CHECKPOINT -o model.onnx`: fold, quantise if asked, prove, write."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

EPILOG = (
    "The same checkpoint gives the same bytes in any folder on any machine. fp16 and int8 write "
    "their measured accuracy into the card; int8 depends on its calibration pictures, too, and on "
    "whether the processor has byte dot products (VNNI). --measure-speed writes what this machine "
    "did."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = EPILOG
    parser.add_argument("checkpoint", type=Path, help="a .safetensors file from `flatfold train`")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the .onnx file to write")
    parser.add_argument(
        "--precision",
        choices=("fp32", "fp16", "int8"),
        default="fp32",
        help="number type of weights and activations (default: fp32)",
    )
    parser.add_argument(
        "--data-dir",
        type=Path,
        help="CIFAR-10's folder, or class folders of pictures: real pictures for the proof; int8 "
        "calibrates on it and, for CIFAR-10, falls back on $FLATFOLD_DATA_DIR and the cache folder",
    )
    parser.add_argument(
        "--max-accuracy-drop",
        type=float,
        default=0.3,
        metavar="POINTS",
        help="fp16, int8: most test accuracy that may be lost against fp32 (default: 0.3)",
    )
    parser.add_argument(
        "--keep-float",
        nargs="+",
        default=[],
        metavar="LAYER",
        help="int8: leave these layers in float; names as `flatfold inspect` shows them",
    )
    parser.add_argument(
        "--measure-speed",
        action="store_true",
        help="write into the card, for fp32 unfolded, fp32, fp16 and int8, images per second on "
        "one thread and, where there are pictures, the test accuracy",
    )


def run(args: argparse.Namespace) -> int:
    """Export and tell what was done."""
    from export.pipeline import (  # noqa: PLC0415 (torch, only when exporting)
        ExportSettings,
        export_checkpoint,
    )

    exported = export_checkpoint(
        args.checkpoint,
        args.output,
        ExportSettings(
            precision=args.precision,
            data_dir=args.data_dir,
            max_accuracy_drop=args.max_accuracy_drop,
            measure_speed=args.measure_speed,
            keep_float=tuple(args.keep_float),
        ),
    )
    folded, kept = len(exported.report.folded), len(exported.report.kept)
    print(f"{args.output}: {exported.card.precision}, {folded} batch norms folded, {kept} kept")
    of = "" if args.precision == "fp32" else f" of fp32, which {args.precision} is made from,"
    print(f"proof{of} against PyTorch: {exported.proof.summary()}")
    for note in exported.notes:
        print(f"note: {note}")
    return 0
