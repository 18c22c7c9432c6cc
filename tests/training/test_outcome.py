from dataclasses import replace

import pytest

from flatfold.cli import build_parser
from training.distributed import Ranks
from training.loop import Trainer
from training.outcome import _command
from training.precision import choose_compute

from .small import shades, tiny_recipe


def command(**changed):
    compute = replace(choose_compute("cpu", "fp32"), **changed)
    recipe = tiny_recipe("fast")
    return _command(Trainer(recipe, shades(320), shades(64), seed=7, compute=compute))


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("ranks", [Ranks(), Ranks(0, 2), Ranks(0, 2, sync_norms=True)])
def test_the_command_holds_what_the_result_depends_on(compiled, ranks):
    launcher, _, rest = command(compiled=compiled, ranks=ranks).rpartition("flatfold train ")
    assert launcher == ("torchrun --nproc-per-node 2 -m " if ranks.size == 2 else "")
    args = build_parser("train").parse_args(["train", *rest.split()])
    assert (args.preset, args.seed, args.precision) == ("fast", 7, "fp32")
    assert (args.compile, args.sync_batch_norm) == (compiled, ranks.sync_norms)
