"""`flatfold classify`: what the server does, without a server."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    import numpy as np
    from numpy.typing import NDArray

    from service.model import Model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `flatfold classify`."""
    parser.add_argument(
        "files", nargs="+", metavar="PICTURE", help="picture files; - reads one from stdin"
    )
    parser.add_argument("--model", type=Path, help=".onnx file (default: the built-in model)")
    parser.add_argument("--top-k", type=int, default=5, help="labels per picture (default: 5)")


def run(args: argparse.Namespace) -> int:
    """Print the server's answer as JSON; return 1 when a picture could not be read."""
    from flatfold.contract.errors import FlatfoldError, UsageError  # noqa: PLC0415
    from flatfold.contract.pictures import load_picture  # noqa: PLC0415
    from service.app import default_model  # noqa: PLC0415
    from service.classify import predictions  # noqa: PLC0415
    from service.model import Model  # noqa: PLC0415

    if args.top_k < 1:
        raise UsageError(f"--top-k must be at least 1, got {args.top_k}")
    model = Model.load(args.model or default_model())
    card = model.card
    if card is None:
        raise FlatfoldError(
            f"{args.model} has no card: its labels and size are unknown; export it with "
            "`flatfold export`, or serve it with --labels and --image-size"
        )
    results: list[dict[str, Any]] = []
    for name in args.files:
        try:
            pixels = load_picture(_read(name), card.height, card.width)
            scores = _scores(model, pixels)
        except FlatfoldError as error:
            print(f"flatfold: error: {name}: {error}", file=sys.stderr)
            results.append({"filename": name, "error": str(error)})
            continue
        top_k = min(args.top_k, len(card.labels))
        results.append({"filename": name, "predictions": predictions(card.labels, scores, top_k)})
    print(json.dumps({"model": model.name, "results": results}))
    return 1 if any("error" in result for result in results) else 0


def _scores(model: Model, pixels: NDArray[np.uint8]) -> list[float]:
    """Return a picture's probabilities, one a label.

    Raises:
        FlatfoldError: the model fails on this picture, or one of them is no number.
    """
    from flatfold.contract.errors import FlatfoldError  # noqa: PLC0415
    from service.scores import probabilities  # noqa: PLC0415

    classes = len(model.card.labels) if model.card else 0
    try:
        arrays = model.run({model.inputs[0].name: pixels[None]}, [model.scores])
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise FlatfoldError(f"the model failed to run: {error}") from error
    scores: list[float] = probabilities(arrays, model.scores, classes)[0].tolist()
    if not math.isfinite(sum(scores)):
        raise FlatfoldError("the model gave NaN or infinity as this picture's scores")
    return scores


def _read(name: str) -> bytes:
    """Return a picture file's bytes, or those of the standard input for "-"."""
    from flatfold.contract.errors import FlatfoldError  # noqa: PLC0415

    try:
        if name != "-":
            return Path(name).read_bytes()
        if sys.stdin is None:
            raise FlatfoldError("cannot be read: the standard input is closed")
        return sys.stdin.buffer.read()
    except OSError as error:
        raise FlatfoldError(f"cannot be read: {error.strerror}") from error
