"""`flatfold fold IN.onnx -o OUT.onnx`: fold the batch norms of any .onnx file, proven first."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from flatfold.contract.errors import FlatfoldError, UsageError
from flatfold.contract.files import atomic_path, check_replaceable

if TYPE_CHECKING:
    import argparse

    from onnx import ModelProto


class KeptError(FlatfoldError):
    """`--strict`: a batch norm stays."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", metavar="IN.onnx", type=Path, help="the model to fold")
    parser.add_argument(
        "-o", "--output", metavar="OUT.onnx", type=Path, required=True, help="the folded model"
    )
    parser.add_argument(
        "--report", metavar="REPORT.json", type=Path, help="write each batch norm's verdict here"
    )
    parser.add_argument(
        "--strict", action="store_true", help="write nothing and fail when a batch norm stays"
    )
    parser.add_argument(
        "--check-data",
        metavar="DIR",
        type=Path,
        help="a folder of pictures to prove the folded model on, besides random numbers",
    )
    parser.add_argument(
        "--no-merge", action="store_true", help="leave parallel convolutions as they are"
    )
    parser.add_argument(
        "--no-proof", action="store_true", help="write without comparing the outputs"
    )


def run(args: argparse.Namespace) -> int:
    """Load, fold, prove, write, report."""
    # Imported late: `flatfold --help` must not load onnx.
    from export.loading import open_model, staged  # noqa: PLC0415
    from export.tensors import is_external, spilling  # noqa: PLC0415

    if args.report is not None:
        for other in (args.model, args.output):
            if args.report.resolve() == other.resolve():
                raise UsageError(f"--report {args.report} would overwrite the model {other}")
    check_replaceable(args.output)  # before the work, not after it
    model, folder = open_model(args.model)
    _check_data_is_safe(args, model, folder)
    said: list[str] = []
    try:
        with ExitStack() as stack:
            if any(map(is_external, model.graph.initializer)):
                # Large folded tensors wait on disk, so that a large model is never whole in memory.
                waiting = stack.enter_context(staged(args.output, keep=False)).parent.resolve()
                stack.enter_context(spilling(waiting))
            _fold_and_write(args, model, folder, said)
    finally:
        # Last: whoever reads this may be gone, and the model is to be written still. Inside the
        # block, a full or closed standard output would pass for a model that cannot be written.
        for line in said:
            print(line)
    return 0


def _check_data_is_safe(args: argparse.Namespace, model: ModelProto, folder: Path) -> None:
    """Refuse to write over the files that hold the input's data.

    Folding a model onto itself is allowed: its data is replaced together with it.

    Raises:
        UsageError: names the file.
    """
    from export.loading import data_path  # noqa: PLC0415 - onnx, as in `run`
    from export.tensors import external_range, is_external  # noqa: PLC0415 - as above

    data = {
        external_range(tensor, folder)[0].resolve()
        for tensor in model.graph.initializer
        if is_external(tensor)
    }
    written = [args.output]
    if args.output.resolve() != args.model.resolve():
        written.append(data_path(args.output))
    if args.report is not None:
        written.append(args.report)
    for path in written:
        if path.resolve() in data:
            raise UsageError(
                f"{path} holds data of {args.model}, which would be lost; choose another name"
            )


def _fold_and_write(
    args: argparse.Namespace, model: ModelProto, folder: Path, said: list[str]
) -> None:
    """Add to `said` what was done, as it is done."""
    from export.folding import fold_in_place  # noqa: PLC0415 - onnx, as in `run`
    from export.loading import staged, write_model  # noqa: PLC0415 - as above
    from export.validity import blaming  # noqa: PLC0415 - as above

    with blaming(args.model):
        report = fold_in_place(model, merge_branches=not args.no_merge, folder=folder)
    said.append(report.summary())
    if args.report is not None:
        with atomic_path(args.report) as path:
            path.write_text(report.to_json())
    if args.strict and report.kept:
        raise KeptError(
            f"--strict was given and {len(report.kept)} of {len(report.verdicts)} batch norms "
            f"stay; {args.output} is not written"
        )
    with staged(args.output) as stage:
        write_model(model, stage, folder)
        if not args.no_proof:
            said.append(f"proven: {_proof(args.model, stage, args.check_data)}")
    said.append(f"wrote {args.output}")


def _proof(original: Path, folded: Path, check_data: Path | None) -> str:
    from export.pictures import check_pictures  # noqa: PLC0415 - onnxruntime, only when proving
    from export.proof import prove  # noqa: PLC0415 - as above
    from export.samples import SampleError  # noqa: PLC0415 - as above

    images = check_pictures(check_data, original) if check_data else None
    try:
        return prove(original, folded, images=images).summary()
    except SampleError as error:
        raise SampleError(f"{error}; --no-proof writes the model unproven") from error
