"""`flatfold serve`: models over HTTP."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from types import FrameType


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `flatfold serve`: one for each setting."""
    from service.config import add_flags  # noqa: PLC0415 (only when asked for)

    add_flags(parser)
    parser.add_argument(
        "--show-config", action="store_true", help="print the settings as JSON and stop"
    )


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl+C."""
    from service.config import load_settings  # noqa: PLC0415 (see above)

    settings = load_settings(vars(args))
    if args.show_config:
        print(json.dumps(settings.shown(), indent=2))
        return 0
    # A container's first process has no default reaction to signals; the server sets its own later.
    signal.signal(signal.SIGTERM, _stop_before_start)
    from service import logs  # noqa: PLC0415 (orjson, only when serving)
    from service.cores import worker_count  # noqa: PLC0415
    from service.descriptors import allow_many  # noqa: PLC0415

    logs.configure(settings.log_level, settings.log_format)
    allow_many()
    if settings.workers == 0:
        workers = worker_count(settings.provider, settings.models)
        settings = replace(settings, workers=workers)
    if settings.workers > 1:
        from service import forking  # noqa: PLC0415

        forking.begin()
        from service.workers import serve_workers  # noqa: PLC0415

        return serve_workers(settings)
    from service.server import serve  # noqa: PLC0415 (FastAPI and onnxruntime, likewise)

    return serve(settings)


def _stop_before_start(number: int, frame: FrameType | None) -> None:
    """End at once: nothing has been promised to anybody yet."""
    del number, frame
    os._exit(0)
