"""What the documents name is there: files, sections, modules, commands and their flags."""

import argparse
import importlib
import importlib.util
import re
from pathlib import Path

import pytest

from flatfold.cli import COMMANDS
from service.config import Settings

ROOT = Path(__file__).parents[1]
SETTINGS = vars(Settings())
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


def test_the_limits_of_the_page_are_the_settings():
    page = (ROOT / "docs/serving.md").read_text()
    rows = re.findall(r"^\| [^|]* \| `--([\w-]+)` ([\d,]+)", page, flags=re.MULTILINE)
    told = {flag.replace("-", "_"): float(number.replace(",", "")) for flag, number in rows}
    limits = {"keep_alive", "timeout", *(name for name in SETTINGS if name.startswith("max_"))}
    assert {*told, "max_batch"} == limits | {"header_timeout"}
    assert told == {name: SETTINGS[name] for name in told}


@each_page
def test_every_test_and_script_that_is_named_exists(page):
    named = re.findall(r"`((?:tests|benchmarks|deploy|requirements)/[\w/.-]+)`", page.read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_benchmark_is_in_its_table():
    page = (ROOT / "benchmarks/README.md").read_text()
    files = {path.name for path in (ROOT / "benchmarks").glob("[!_]*.py")}
    assert files == set(re.findall(r"`(\w+\.py)`", page))
