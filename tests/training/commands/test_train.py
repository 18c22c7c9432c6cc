from __future__ import annotations

import argparse
from pathlib import Path

from training.commands.train import add_arguments


def test_the_help_tells_the_default_folder() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    default = parser.parse_args([]).output
    assert default == Path("runs/latest")
    assert f"(default: {default})" in " ".join(parser.format_help().split())
