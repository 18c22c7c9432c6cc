"""Logging set-up: one line an event, as text or as JSON."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import sys
from datetime import UTC, datetime
from typing import Any

import orjson


class TextFormatter(logging.Formatter):
    """`2026-11-21T12:00:00Z INFO service.access POST /v1/classify 200 3.1 ms request_id=...`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, and the traceback below it where there is one."""
        fields: dict[str, Any] = getattr(record, "fields", {})
        text = f"{_time(record)} {record.levelname} {record.name} {record.getMessage()}"
        if "request_id" in fields:
            text += f" request_id={fields['request_id']}"
        return text + (f"\n{self.formatException(record.exc_info)}" if record.exc_info else "")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the event's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line of JSON."""
        event = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            event["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(event, default=str).decode()


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def configure(level: str, style: str) -> None:
    """Send everything to standard error.

    Access lines are the service's own; uvicorn's are left out. Below INFO they cost nothing.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)  # a library's, too, are events: one line of JSON where it is JSON
    logging.getLogger("uvicorn").setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
    for library in ("PIL", "python_multipart"):
        logging.getLogger(library).setLevel(logging.CRITICAL)  # our errors say it already


def silence_libtiff() -> None:
    """Keep libtiff, by which Pillow reads TIFFs, from writing about damaged ones by itself.

    It writes to standard error, between our lines, and our errors say it already.
    """
    from PIL import _imaging  # noqa: PLC0415 (not needed by a process that decodes nothing)

    with contextlib.suppress(OSError, AttributeError):  # a Pillow that has it built in
        library = ctypes.CDLL(_imaging.__file__)
        library.TIFFSetErrorHandler(None)
        library.TIFFSetWarningHandler(None)
