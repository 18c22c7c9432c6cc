"""What each ingredient of a recipe buys: the recipe without it, everything else the same.

    python -m benchmarks.ablation --preset fast --epochs 5 --seeds 0 1 2
    python -m benchmarks.ablation --limit 1        # one training more, in the seconds there are

writes the table in docs/training.md. The accuracy is that of held-out training pictures, drawn by
the seed: a seed's runs see the same pictures, so differences are taken seed by seed. Every training
is a JSON line and is not done again.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.trials import (
    Ledger,
    Trial,
    add_trial_arguments,
    mean_loss,
    percent,
    put_table,
    run_trials,
    telling_errors,
)
from training.data import load_cifar10
from training.recipe import PRESETS, Recipe, preset

if TYPE_CHECKING:
    from collections.abc import Callable

WHOLE = "as it is"


def _sgd(recipe: Recipe) -> Recipe:
    """Nesterov momentum for everything, with the rates (and the logit scale they are for)."""
    if recipe.filters == "sgd":
        return recipe
    rates = PRESETS["best"]
    return replace(
        recipe,
        network=replace(recipe.network, logit_scale=rates.network.logit_scale),
        filters="sgd",
        filter_lr=rates.filter_lr,
        filter_momentum=rates.filter_momentum,
        head_lr=rates.head_lr,
        bias_lr=rates.bias_lr,
        weight_decay=rates.weight_decay,
    )


def _all_pictures(recipe: Recipe) -> Recipe:
    """Every picture of each batch, batches as large as what was learnt from, at the same cost."""
    return replace(
        recipe,
        hardest=1.0,
        batch_size=recipe.learnt_from(recipe.batch_size),
        epochs=max(1, round(recipe.epochs * recipe.hardest)),
    )


def _whole_pictures(recipe: Recipe) -> Recipe:
    """Pictures of full size throughout, in as many epochs as cost the same."""
    whole = replace(recipe, progressive=0.0)
    share = recipe.operations(recipe.batch_size) / whole.operations(recipe.batch_size)
    return replace(whole, epochs=max(1, round(recipe.epochs * share)))


def _large_batches(recipe: Recipe) -> Recipe:
    """airbench94_muon's own batch, and the rates that it has there."""
    if recipe.filters != "muon":
        return recipe
    batch = round(2000 / recipe.hardest)  # 2,000 of it are learnt from
    return replace(recipe, batch_size=batch, filter_lr=0.24, filter_momentum=0.6, weight_decay=4e-3)


VARIANTS: dict[str, Callable[[Recipe], Recipe]] = {
    WHOLE: lambda recipe: recipe,
    "random instead of alternating flip": lambda recipe: replace(recipe, flip="random"),
    "filters without mirror images": lambda recipe: replace(recipe, mirror=False),
    "no dirac initialisation": lambda recipe: replace(recipe, dirac=False),
    "random instead of whitening filters": lambda recipe: replace(recipe, whitening=False),
    "SGD instead of Muon": _sgd,
    "no label smoothing": lambda recipe: replace(recipe, label_smoothing=0.0),
    "no lookahead": lambda recipe: replace(recipe, lookahead=False),
    "all pictures, not the hardest, same cost": _all_pictures,
    "whole pictures from the start, same cost": _whole_pictures,
    "batches of 2,000 as in airbench94_muon": _large_batches,
    "no cutout": lambda recipe: replace(recipe, cutout=0),
    "three Newton-Schulz steps as in airbench94_muon": lambda recipe: replace(
        recipe, newton_schulz=3
    ),
    "with branches": lambda recipe: replace(recipe, network=replace(recipe.network, branches=True)),
}


def trials(base: Recipe, seeds: list[int], names: list[str]) -> list[Trial]:
    """Return the trainings in order: all variants of a seed first; without what changes nothing."""
    changed = {name: VARIANTS[name](base) for name in dict.fromkeys([WHOLE, *names])}
    return [
        Trial(name, recipe, seed)
        for seed in seeds
        for name, recipe in changed.items()
        if name == WHOLE or recipe != base
    ]


def render(wanted: list[Trial], ledger: Ledger) -> str:
    """Return the Markdown table of those trainings that are done."""
    rows: dict[str, dict[int, dict[str, Any]]] = {}
    for trial in wanted:
        for row in ledger.find(**trial.key):
            rows.setdefault(trial.name, {})[trial.seed] = row
    whole = rows.get(WHOLE, {})
    lines = [
        "| recipe | held-out accuracy, % | points, seed by seed | loss | operations |",
        "|---|---|---|---:|---:|",
    ]
    for name, found in rows.items():
        gaps = [
            100 * (found[seed]["accuracy"] - whole[seed]["accuracy"])
            for seed in found
            if seed in whole
        ]
        lines.append(
            f"| {name} | {percent(list(found.values()))} | {'' if name == WHOLE else gap(gaps)} "
            f"| {mean_loss(list(found.values()))} "
            f"| {next(iter(found.values()))['operations']:.1e} |"
        )
    facts = dict.fromkeys(row["machine"] for found in rows.values() for row in found.values())
    recipe = wanted[0].recipe
    told = f"Preset `{recipe.preset}` at {recipe.epochs} epochs, {recipe.holdout:,} held out"
    lines += ["", f"{told}; {'; '.join(facts) or 'not measured'}."]
    return "\n".join(lines) + "\n"


def gap(points: list[float]) -> str:
    """Return the mean difference and, of several, its standard error."""
    if not points:
        return "not measured"
    if len(points) == 1:
        return f"{points[0]:+.2f}"
    return f"{fmean(points):+.2f} ± {stdev(points) / len(points) ** 0.5:.2f}"


@telling_errors()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, help="instead of the preset's")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--output", type=Path, default=Path("docs/ablation.jsonl"))
    parser.add_argument("--document", type=Path, default=Path("docs/training.md"))
    add_trial_arguments(parser)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    base = preset(args.preset)
    base = replace(base, epochs=args.epochs or base.epochs)
    wanted = trials(base, args.seeds, args.only)
    ledger = Ledger(args.output)
    states = args.output.parent.parent / "runs" / "trials"
    run_trials(wanted, ledger, load_cifar10(args.data_dir, train=True), states, args.limit)
    table = render(wanted, ledger)
    put_table(args.document, "ablation", table)
    print(table)


if __name__ == "__main__":
    main()
