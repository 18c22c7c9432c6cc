"""What the documents name is there: files, sections, modules, commands and their flags."""

import argparse
import importlib
import importlib.util
import re
from pathlib import Path

import pytest

from flatfold.cli import COMMANDS

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "benchmarks/README.md", *(ROOT / "docs").glob("*.md")])
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def sections(page):
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def flags(name):
    parser = argparse.ArgumentParser()
    importlib.import_module(COMMANDS[name][0]).add_arguments(parser)
    return {flag for action in parser._actions for flag in action.option_strings}


@each_page
def test_every_link_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith(("http://", "https://")):
            continue
        path, _, section = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not section or section in sections(target), link


@each_page
def test_every_module_that_is_called_exists(page):
    for name in re.findall(r"python -m (benchmarks\.\w+)", page.read_text()):
        assert importlib.util.find_spec(name), name


@each_page
def test_every_flag_of_a_command_is_one_of_its_flags(page):
    lines = page.read_text().replace("\\\n", " ").splitlines()
    for line in lines:
        for name, rest in re.findall(r"flatfold (\w+)( [^`|#]*)", line):
            if name in COMMANDS:
                assert set(re.findall(r"(?<!\S)--?[a-z][\w-]*", rest)) <= flags(name), line


@each_page
def test_every_test_and_script_that_is_named_exists(page):
    named = re.findall(r"`((?:tests|benchmarks|deploy|requirements)/[\w/.-]+)`", page.read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []
