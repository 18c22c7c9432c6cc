"""Trainings are done once, in pieces if need be, and their tables say what the rows say."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.ablation import VARIANTS, WHOLE, gap, render, trials
from benchmarks.candidates import parse
from benchmarks.candidates import render as render_candidates
from benchmarks.trials import Ledger, Trial, percent, put_table, run_trials
from tests.training.small import shades, tiny_recipe
from training.data import Pictures
from training.recipe import PRESETS

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def pictures() -> Pictures:
    made = shades(60)
    return Pictures(made.images.numpy(), made.labels.numpy(), ("a", "b", "c", "d"))


def test_a_limit_stops_and_the_next_call_goes_on(tmp_path: Path, pictures: Pictures) -> None:
    wanted = [Trial("tiny", tiny_recipe("fast", epochs=1), seed) for seed in (0, 1)]
    path = tmp_path / "rows.jsonl"
    run_trials(wanted, Ledger(path), pictures, tmp_path, limit=1)
    assert [row["seed"] for row in Ledger(path).rows] == [0]
    run_trials(wanted, Ledger(path), pictures, tmp_path, limit=None)
    run_trials(wanted, Ledger(path), pictures, tmp_path, limit=None)
    rows = Ledger(path).rows
    assert [row["seed"] for row in rows] == [0, 1]
    assert all(0 <= row["accuracy"] <= 1 and row["loss"] > 0 for row in rows)
    assert not list(tmp_path.glob("*.safetensors"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("ablation --preset turbo", "unknown preset 'turbo'; expected one of fast, standard, best"),
        ("ablation --data-dir nowhere", "no CIFAR-10 in nowhere"),
        ("training_speed --presets turbo", "unknown preset 'turbo'"),
    ],
)
def test_what_cannot_be_done_is_one_line(words: str, message: str, tmp_path: Path) -> None:
    name, *flags = words.split()
    places = ["--output", str(tmp_path / "rows"), "--document", str(tmp_path / "text")]
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *flags, *places],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {message}")


def test_another_recipe_is_another_trial() -> None:
    first, other = (Trial("a", tiny_recipe("fast", epochs=epochs), 0) for epochs in (1, 2))
    assert first.key != other.key


def test_the_published_ablation_is_found_by_its_recipes() -> None:
    without_pairs = replace(PRESETS["fast"], mirror=False)  # as it says
    variants = {trial.name: trial for trial in trials(without_pairs, [0], list(VARIANTS))}
    ledger = Ledger(DOCS / "ablation.jsonl")
    assert ledger.rows
    assert all(ledger.find(**variants[row["trial"]].key) for row in ledger.rows)


def test_what_a_recipe_goes_without_is_not_taken_out_of_it() -> None:
    names = [trial.name for trial in trials(PRESETS["fast"], [0], list(VARIANTS))]
    assert names[0] == WHOLE
    assert {"SGD instead of Muon", "no dirac initialisation"} <= set(names)
    assert not {"no lookahead", "no cutout", "all pictures, not the hardest, same cost"} & set(
        names
    )
    assert "SGD instead of Muon" not in [
        t.name for t in trials(PRESETS["best"], [0], list(VARIANTS))
    ]


def test_the_ablation_pairs_by_seed(tmp_path: Path) -> None:
    base = PRESETS["best"]
    wanted = trials(base, [0, 1], ["no cutout"])
    ledger = Ledger(tmp_path / "rows.jsonl")
    for trial, accuracy in zip(wanted, (0.90, 0.89, 0.92, 0.93), strict=True):
        ledger.add(**trial.key, accuracy=accuracy, loss=0.25, operations=1e14, machine="one")
    text = render(wanted, ledger)
    assert (
        "| as it is | 91.00 (90.00 to 92.00, deviation 1.41, 2 runs) |  | 0.2500 | 1.0e+14 |"
        in text
    )
    assert "| +0.00 ± 1.00 | 0.2500 |" in text
    assert gap([]) == "not measured"
    assert percent([]) == "not measured"


def test_the_candidates_table(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "rows.jsonl")
    cells = {f"{name} {batch}": [1.0, 0.5, 2.0] for name in ("fp32", "int8") for batch in (1, 8)}
    sizes = {"fp32": 8e6, "int8": 2e6}
    row = {"shape": "16x2", "multiply_adds": 5e6, "weights": 1e6, "bytes": sizes, **cells}
    ledger.add(kind="speed", **row, rounds=1, machine="one")
    wanted = "| 16x2 | 5 M | 1.0 M | 8.0 / 2.0 | 1.00 (0.50 to 2.00) |"
    text = render_candidates(ledger)
    assert wanted in text
    assert "| not measured | not measured |" in text
    run = {"trial": "16x2", "accuracy": 0.9, "loss": 0.25, "epochs": 5, "held_out": 10_000}
    ledger.add(**run, machine="one")
    text = render_candidates(ledger)
    assert "| 90.00, one run | 0.2500 |" in text
    assert "5 epochs, 10,000 held out (one)" in text


def test_a_shape_is_read_and_nonsense_refused() -> None:
    config = parse("64x2-256x3")
    assert (config.widths, config.depths) == ((64, 256), (2, 3))
    with pytest.raises(SystemExit, match="is no shape"):
        parse("64-256")


def test_a_table_goes_between_its_marks_and_nowhere_else(tmp_path: Path) -> None:
    document = tmp_path / "doc.md"
    document.write_text("before\n<!-- t -->\nold\n<!-- /t -->\nafter\n")
    put_table(document, "t", "new\n")
    assert document.read_text() == "before\n<!-- t -->\nnew\n<!-- /t -->\nafter\n"
    with pytest.raises(SystemExit, match="needs the lines"):
        put_table(document, "u", "new\n")


def test_same_cost_is_the_same_cost() -> None:
    base = PRESETS["best"]
    other = VARIANTS["all pictures, not the hardest, same cost"](base)
    assert other.operations(45_000) == pytest.approx(base.operations(45_000), rel=0.02)
    assert other.batch_size == base.learnt_from(base.batch_size)
    same = {"hardest": base.hardest, "epochs": base.epochs, "batch_size": base.batch_size}
    assert replace(other, **same) == base
