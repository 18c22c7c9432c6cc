"""`flatfold train`: a recipe and a folder of pictures in, a checkpoint out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `flatfold train`."""
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("runs/latest"),
        help="folder of the run: checkpoint, state, log, picture (default: runs/latest)",
    )
    parser.add_argument(
        "--preset", default="standard", help="fast, standard or best (default: standard)"
    )
    parser.add_argument(
        "--data-dir",
        help="CIFAR-10's folder, or one with a folder of pictures for each class; "
        "else $FLATFOLD_DATA_DIR, else the cache, else a download",
    )
    parser.add_argument(
        "--image-size", type=int, help="height and width of your own pictures (default: 32)"
    )
    parser.add_argument("--epochs", type=int, help="instead of the preset's")
    parser.add_argument("--batch-size", type=int, help="instead of the preset's")
    parser.add_argument(
        "--seed", type=int, default=0, help="everything random follows from it (default: 0)"
    )
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)"
    )
    parser.add_argument(
        "--precision",
        default="auto",
        choices=("auto", "fp32", "bf16"),
        help="of the arithmetic while training (default: auto)",
    )
    parser.add_argument(
        "--branches",
        action="store_true",
        help="learn with 1x1 and identity branches beside each 3x3 convolution; "
        "export merges them into it",
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="learn through torch.compile: needs a C++ compiler, on a GPU Triton",
    )
    parser.add_argument(
        "--sync-batch-norm",
        action="store_true",
        help="under torchrun: batch statistics over all processes, as one process would have them",
    )
    parser.add_argument("--threads", type=int, help="CPU threads (default: PyTorch's choice)")
    parser.add_argument(
        "--resume", action="store_true", help="go on from the last finished epoch in --output"
    )


def run(args: argparse.Namespace) -> int:
    """Train, and write `model.safetensors` into the output folder."""
    from training.memory import telling_shortage  # noqa: PLC0415 (torch, only when training)
    from training.session import run_session  # noqa: PLC0415 (as above)

    with telling_shortage():
        return run_session(args)
