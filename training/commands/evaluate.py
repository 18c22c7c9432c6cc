"""`flatfold evaluate`: how good a checkpoint or an .onnx file is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from flatfold.contract.errors import UsageError

if TYPE_CHECKING:
    import argparse

    from training.evaluate import Evaluation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `flatfold evaluate`."""
    parser.add_argument("model", help="a .safetensors checkpoint or an .onnx file")
    parser.add_argument(
        "--data-dir",
        help="CIFAR-10's folder, or class folders whose test share is used; "
        "else $FLATFOLD_DATA_DIR, else the cache, else a download",
    )
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object")
    parser.add_argument("--no-tta", action="store_true", help="leave test-time augmentation out")
    parser.add_argument(
        "--batch-size",
        type=int,
        help="pictures a call (default: 500, fewer of pictures above 32x32 pixels)",
    )
    parser.add_argument(
        "--device",
        default="auto",
        help="of a checkpoint: auto, cpu, cuda or cuda:N (default: auto)",
    )


def run(args: argparse.Namespace) -> int:
    """Evaluate the model on the test pictures and print the figures."""
    from tqdm import tqdm  # noqa: PLC0415 # heavy imports wait until the command runs

    from training.datasets import load_test  # noqa: PLC0415 # as above
    from training.evaluate import ask, summarise  # noqa: PLC0415 # as above
    from training.memory import telling_shortage  # noqa: PLC0415 # as above
    from training.predictor import load_predictor  # noqa: PLC0415 # as above

    if args.batch_size is not None and args.batch_size < 1:
        raise UsageError(f"--batch-size must be at least 1, got {args.batch_size}")
    predictor = load_predictor(args.model, args.device)
    pictures = load_test(args.data_dir, size=predictor.card.height)
    with telling_shortage(), tqdm(total=len(pictures), unit="img", disable=None) as bar:
        answers = ask(
            predictor,
            pictures,
            batch_size=args.batch_size,
            tta=not args.no_tta,
            progress=bar.update,
        )
    measured = summarise(answers, predictor.card.labels)
    print(json.dumps(measured.to_dict(), allow_nan=False) if args.json else _text(measured))
    return 0


def _text(measured: Evaluation) -> str:
    """Return the figures as lines for people."""
    names = [_on_one_line(name) for name in measured.labels]
    width = max(map(len, names))
    cell = max(len(str(measured.images)), 5)
    lines = [f"{measured.images} pictures", f"accuracy, single view  {measured.accuracy:8.2%}"]
    if measured.accuracy_tta is not None:
        lines.append(f"accuracy, with TTA     {measured.accuracy_tta:8.2%}")
    lines += [
        f"log loss               {measured.log_loss:8.4f}",
        f"calibration error      {measured.ece:8.4f}  (15 bins)",
        "",
        f"{'':{width}} {'found':>8}   as " + " ".join(f"{n[:cell]:>{cell}}" for n in names),
    ]
    shares = measured.per_class.values()
    for name, share, row in zip(names, shares, measured.confusion, strict=True):
        found = "-" if share is None else f"{share:.2%}"
        counts = " ".join(f"{count:>{cell}}" for count in row)
        lines.append(f"{name:{width}} {found:>8}      {counts}")
    return "\n".join(lines)


def _on_one_line(name: str) -> str:
    """Return a class's name as one line shows it: folders may have line ends in their names."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)
