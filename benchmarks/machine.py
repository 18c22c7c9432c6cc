"""Where a run was made: hardware, system and versions."""

from __future__ import annotations

import datetime as dt
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.contenders import BY_NAME

if TYPE_CHECKING:
    import argparse

_PLACES = ("--raw", "--output", "--document", "--cache-dir")


def cpu() -> str:
    """Return the processor's name as the kernel gives it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def commit() -> str:
    """Return the commit that is measured; with a mark where files differ from it."""
    describe = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(
        describe, capture_output=True, text=True, check=False, cwd=Path(__file__).parent
    )
    return done.stdout.strip() or "unknown"


def command(module: str) -> str:
    """Return the command that runs, without the places where it writes or keeps its things."""
    words: list[str] = []
    given = iter(sys.argv[1:])
    for word in given:
        name, equals, _ = word.partition("=")
        if name not in _PLACES:
            words.append(word)
        elif not equals:
            next(given, None)  # the place itself
    return shlex.join(["python", "-m", module, *words])


def provenance(args: argparse.Namespace) -> dict[str, str]:
    """Return facts for the head of the report, in order."""
    facts = {
        "command": command("benchmarks.run"),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "commit": commit(),
        "hardware": f"{os.cpu_count()} cores, {cpu()}, {platform.machine()}",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "rounds": f"{args.rounds}, {args.seconds:g} s a cell, interleaved",
    }
    for name in args.only:
        contender = BY_NAME.get(name)
        if contender is None or contender.ceiling:
            continue
        try:
            versions = contender.versions(args.cache_dir)
        except (OSError, subprocess.CalledProcessError):
            continue
        shown = ", ".join(f"{package} {version}" for package, version in versions.items())
        facts[f"versions of {name}"] = shown
    return facts
