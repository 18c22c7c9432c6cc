"""The `flatfold` command: one subcommand a module, imported only when it is called."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
import warnings
from typing import TYPE_CHECKING

from flatfold import __version__
from flatfold.contract.errors import FlatfoldError

if TYPE_CHECKING:
    from collections.abc import Sequence

# name: (module with add_arguments(parser) and run(args) -> exit code, one line of help, extra)
COMMANDS: dict[str, tuple[str, str, str]] = {
    "train": ("training.commands.train", "train a classifier and write its checkpoint", "train"),
    "evaluate": ("training.commands.evaluate", "measure a checkpoint or an .onnx file", "train"),
    "export": ("export.commands.export", "checkpoint in, one folded .onnx file out", "export"),
    "fold": ("export.commands.fold", "fold the batch norms of any .onnx file", "fold"),
    "verify": ("export.commands.verify", "prove that two .onnx files compute the same", "fold"),
    "inspect": ("export.commands.inspect", "show a model's card, layers and hash", "fold"),
    "serve": ("service.commands.serve", "serve models over HTTP", ""),
    "classify": ("service.commands.classify", "classify pictures without a server", ""),
}


def build_parser(chosen: str | None = None) -> argparse.ArgumentParser:
    """Return the parser; only the chosen command's module is imported, so that help is fast."""
    parser = argparse.ArgumentParser(
        prog="flatfold", description="Train, fold and serve a small image classifier."
    )
    parser.add_argument("--version", action="version", version=f"flatfold {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module, summary, extra) in COMMANDS.items():
        command = commands.add_parser(
            name, help=summary, description=summary[0].upper() + summary[1:]
        )
        if name == chosen:
            loaded = _load(name, module, extra)
            loaded.add_arguments(command)
            command.set_defaults(run=loaded.run)
    return parser


def _load(name: str, module: str, extra: str) -> argparse.Namespace:
    try:
        return importlib.import_module(module)  # type: ignore[return-value]
    except ModuleNotFoundError as error:
        raise _missing(name, extra, error) from error


def _missing(name: str, extra: str, error: ModuleNotFoundError) -> FlatfoldError:
    return FlatfoldError(
        f"{name!r} needs the Python package {error.name!r}, which is not installed: "
        f"pip install 'flatfold[{extra}]'"
    )


def _prepare_streams() -> None:
    """Let no word end a command: what a closed stream is told is lost, an odd letter is escaped.

    A stream is None where it was closed before the start (`>&-`). Letters that its encoding lacks
    come from class names and paths.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            _lose(name)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _lose(name: str) -> None:
    """Let what the stream is told, or could not pass on, be lost."""
    setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123 # till the end


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return 0 if well, 1 if failed, 2 for wrong usage, 130 if interrupted."""
    _prepare_streams()
    # Since 1.29 onnxruntime's Linux builds report models to their maker unless this is set before
    # they are imported; whoever wants that sets it to 0.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    # Pictures have our own limit, with an error that says what to do; Pillow's warning adds noise.
    warnings.filterwarnings("ignore", message="Image size .* exceeds limit")
    arguments = list(sys.argv[1:] if argv is None else argv)
    chosen = next((word for word in arguments if not word.startswith("-")), None)
    try:
        parsed = build_parser(chosen).parse_args(arguments)
        code = int(parsed.run(parsed))
        sys.stdout.flush()  # what fails at Python's own end ends it with 120
    except FlatfoldError as error:
        print(f"flatfold: error: {error}", file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        extra = COMMANDS[chosen][2] if chosen in COMMANDS else ""
        if not extra:
            raise
        print(f"flatfold: error: {_missing(str(chosen), extra, error)}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        _lose("stdout")
        _lose("stderr")
        return 1
    except OSError as error:  # of files the commands tell; a full disk behind a stream is left
        _lose("stdout")
        print(f"flatfold: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return code


if __name__ == "__main__":
    sys.exit(main())
