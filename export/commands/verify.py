"""`flatfold verify A.onnx B.onnx`: prove that two models compute the same."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from flatfold.contract.errors import UsageError

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("original", type=Path, help="the model to trust")
    parser.add_argument("changed", type=Path, help="the model to judge")
    parser.add_argument("--samples", type=int, default=64, help="random inputs (default: 64)")
    parser.add_argument("--seed", type=int, default=0, help="of the random inputs (default: 0)")
    parser.add_argument(
        "--tolerance",
        type=float,
        help="largest error in parts of the channel's RMS (default: by the model's number type, "
        "1e-5 for float32)",
    )
    parser.add_argument(
        "--check-data", type=Path, metavar="DIR", help="add real pictures from this folder"
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def run(args: argparse.Namespace) -> int:
    """Prove, and print the figures; a failed proof is an error."""
    from export.loading import open_model  # noqa: PLC0415 (onnx, only when proving)
    from export.pictures import check_pictures  # noqa: PLC0415 (as above)
    from export.proof import prove  # noqa: PLC0415 (as above)

    if args.samples < 1:
        raise UsageError(f"--samples must be at least 1, got {args.samples}")
    if args.seed < 0:
        raise UsageError(f"--seed must be at least 0, got {args.seed}")
    if args.tolerance is not None and not 0 < args.tolerance < math.inf:
        raise UsageError(f"--tolerance must be a positive number like 1e-5, got {args.tolerance}")
    for path in (args.original, args.changed):
        open_model(path)  # says in one line what is wrong with a file that is no model
    images = check_pictures(args.check_data, args.original) if args.check_data else None
    proof = prove(
        args.original,
        args.changed,
        samples=args.samples,
        images=images,
        tolerance=args.tolerance,
        seed=args.seed,
    )
    print(json.dumps(proof.to_dict()) if args.json else f"same: {proof.summary()}")
    return 0
