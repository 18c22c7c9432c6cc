"""The server's settings: one frozen class, built once from flag, environment, file and default."""

from __future__ import annotations

import math
import os
import re
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flatfold.contract.errors import UsageError
from flatfold.contract.limits import MAX_PIXELS, PIXEL_CEILING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

PREFIX = "FLATFOLD_"
# What a browser's Origin header can say, and the star for all; others would match nothing, unsaid.
ORIGIN = re.compile(r"\*|null|[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]+)?")


def _setting(default: Any, text: str, **extra: Any) -> Any:
    return field(default=default, metadata={"help": text, **extra})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that can be set; each field is a flag, a FLATFOLD_* variable and a file's key."""

    host: str = _setting("127.0.0.1", "address to listen on", filled=True)
    port: int = _setting(8000, "port to listen on; 0 for a free one", low=0, high=65535)
    models: tuple[str, ...] = _setting(
        (), "model files and folders, in the variable comma-separated (default: the built-in model)"
    )
    default_model: str = _setting("", "model of requests that name none, where there are several")
    labels: str = _setting("", "file with one label a line, for models without a card")
    image_size: int = _setting(32, "height and width, for models without a card", low=1)
    watch: float = _setting(
        0.0, "seconds between two looks at the model folders; 0 for none", low=0
    )
    provider: str = _setting("auto", "auto, cpu, cuda, tensorrt or openvino")
    precision: str = _setting("file", "file, or fp16 with tensorrt", choices=("file", "fp16"))
    threads: int = _setting(
        0, "threads of one inference; 0 shares the cores among workers", low=0, high=1024
    )
    workers: int = _setting(
        0,
        "processes that share the port; 0 for one a core, up to 4, and for 1 on a GPU",
        low=0,
        high=256,
    )
    max_batch: int = _setting(
        0, "most pictures in one inference; 0 for 16 on a CPU, measured on a GPU", low=0
    )
    max_queue: int = _setting(
        256, "most pictures waiting for one model in one worker; beyond it requests get 429", low=1
    )
    timeout: float = _setting(30.0, "seconds until a request gets 504; 0 for never", low=0)
    grace: float = _setting(30.0, "seconds for requests in flight after SIGTERM", low=0)
    header_timeout: float = _setting(10.0, "seconds for a request's head and body to arrive", low=0)
    keep_alive: float = _setting(
        75.0, "seconds until an idle connection is closed; 0 for at once", low=0
    )
    max_body: int = _setting(20_000_000, "most bytes in a request's body", low=1)
    max_pixels: int = _setting(
        MAX_PIXELS, "most pixels in a picture, by its header", low=1, high=PIXEL_CEILING
    )
    max_files: int = _setting(64, "most pictures in a request", low=1)
    max_connections: int = _setting(
        1000,
        "most requests at once in one worker, idle connections not counted; beyond it they get 503",
        low=1,
    )
    api_keys: str = _setting(
        "", "keys, comma-separated, that guard every call", secret=True, several=True
    )
    admin_keys: str = _setting(
        "", "keys, comma-separated, that allow load and unload", secret=True, several=True
    )
    cors: str = _setting(
        "",
        "origins, comma-separated, that browsers may call from, or *",
        several=True,
        each=ORIGIN,
        wanted="origins as browsers send them, such as https://example.com:8443, or *",
    )
    access_log: str = _setting(
        "errors",
        "which requests are logged: all, errors or none",
        choices=("all", "errors", "none"),
    )
    log_format: str = _setting("text", "text or json", choices=("text", "json"))
    log_level: str = _setting(
        "info", "debug, info, warning or error", choices=("debug", "info", "warning", "error")
    )

    def shown(self) -> dict[str, Any]:
        """Return the settings as JSON types, secrets as the number of keys."""
        values: dict[str, Any] = {}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if entry.metadata.get("secret"):
                value = f"{len(keys(value))} keys"
            values[entry.name] = list(value) if isinstance(value, tuple) else value
        return values


def keys(text: str) -> tuple[str, ...]:
    """Split a comma-separated setting; empty parts do not count."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare one flag for each setting, without defaults: what is not given stays unset."""
    for entry in fields(Settings):
        default = (
            ""
            if entry.metadata.get("secret") or entry.default in ("", ())
            else f" (default: {entry.default})"
        )
        text = f"{entry.metadata['help']}{default} [${PREFIX}{entry.name.upper()}]"
        if entry.name == "models":
            parser.add_argument("models", nargs="*", metavar="MODEL", help=text)
        else:
            flag = "--" + entry.name.replace("_", "-")
            parser.add_argument(flag, metavar=entry.name.upper(), help=text)
    parser.add_argument(
        "--config", type=Path, help=f"TOML file with these settings [${PREFIX}CONFIG]"
    )


def load_settings(
    given: Mapping[str, Any], environment: Mapping[str, str] = os.environ
) -> Settings:
    """Build the settings: a flag beats the environment, which beats the file, which beats defaults.

    Args:
        given: flags by field name; None or an empty list where not given; "config" names a file.
        environment: variables; those that start with FLATFOLD_ and name a setting count.

    Raises:
        UsageError: unreadable file, unknown key, or a value of the wrong type or out of range.
    """
    path = given.get("config") or environment.get(PREFIX + "CONFIG")
    from_file = _read_file(Path(path)) if path else {}
    values: dict[str, Any] = {}
    for entry in fields(Settings):
        variable = PREFIX + entry.name.upper()
        flag = given.get(entry.name)
        if flag not in (None, []):
            source, raw = _flag_name(entry.name), flag
        elif environment.get(variable):
            source, raw = "$" + variable, environment[variable]
        elif entry.name in from_file:
            source, raw = f"{path}: {entry.name}", from_file[entry.name]
        else:
            continue
        values[entry.name] = _parse(entry.default, entry.metadata, raw, source)
    return Settings(**values)


def _flag_name(name: str) -> str:
    return "MODEL" if name == "models" else "--" + name.replace("_", "-")


def _read_file(path: Path) -> dict[str, Any]:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(f"cannot read the settings {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from error
    known = {entry.name for entry in fields(Settings)}
    unknown = sorted(set(data) - known)
    if unknown:
        raise UsageError(f"{path} has unknown settings: {', '.join(unknown)}; see --show-config")
    return data


def _parse(default: Any, rules: Mapping[str, Any], raw: Any, source: str) -> Any:
    """Turn a flag's, a variable's or a file's value into the default's type, within its range."""
    try:
        value = _joined(default, rules, raw) if isinstance(raw, list) else _converted(default, raw)
    except (TypeError, ValueError, OverflowError):
        wanted = "texts without commas" if rules.get("several") else _WANTED[type(default)]
        shown = f"a {type(raw).__name__}" if rules.get("secret") else repr(raw)
        raise UsageError(f"{source} must be {wanted}, got {shown}") from None
    low, high, choices = rules.get("low"), rules.get("high"), rules.get("choices")
    if (low is not None and not value >= low) or (high is not None and value > high):
        bounds = f"at least {low}" if high is None else f"between {low} and {high}"
        raise UsageError(f"{source} must be {bounds}, got {value}")
    if choices and value not in choices:
        raise UsageError(f"{source} must be one of {', '.join(choices)}, got {value!r}")
    if rules.get("filled") and not value:
        raise UsageError(f"{source} must not be empty")
    # "$A,$B" of two unset variables would leave every call unguarded.
    if rules.get("several") and value and not keys(value):
        raise UsageError(f"{source} must hold at least one text, got only commas and spaces")
    if each := rules.get("each"):
        for part in keys(value):
            if not each.fullmatch(part):
                raise UsageError(f"{source} must be {rules['wanted']}; got {part!r}")
    return value


_WANTED = {
    int: "a whole number",
    float: "a number of seconds",
    str: "a text",
    tuple: "paths, none of them empty",
}


def _converted(default: Any, raw: Any) -> Any:
    """Return one value in the default's type; a text may stand for any, a number for no text.

    Raises:
        TypeError: it is of another type.
        ValueError: a text does not say such a value, or a number is not finite.
    """
    kind = type(default)
    if isinstance(raw, str):
        return keys(raw) if kind is tuple else _finite(kind(raw))
    if isinstance(raw, bool) or not isinstance(raw, int if kind is int else (int, float)):
        raise TypeError
    if kind not in (int, float):
        raise TypeError
    return _finite(kind(raw))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError
    return value


def _joined(default: Any, rules: Mapping[str, Any], raw: list[Any]) -> Any:
    """Return a list of texts as the setting holds it: a tuple, or one text with commas.

    Raises:
        TypeError: no list is wanted here.
        ValueError: an element is no text, is empty, or would not come out of the text again.
    """
    if not all(isinstance(part, str) and part for part in raw):
        raise ValueError
    if isinstance(default, tuple):
        return tuple(raw)
    if not rules.get("several"):
        raise TypeError
    text = ",".join(raw)
    if keys(text) != tuple(raw):
        raise ValueError
    return text
