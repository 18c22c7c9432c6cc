import os
import subprocess
import sys

import pytest
import torch

from flatfold.contract.errors import UsageError
from training.loop import Trainer
from training.precision import choose_compute, choose_device

from .small import Recorder, shades, tiny_recipe


@pytest.mark.slow
def test_compiled_steps_learn_what_plain_ones_do(tmp_path):
    losses = []
    for compiled in (False, True):
        recorder = Recorder()
        compute = choose_compute("cpu", "fp32", compiled=compiled)
        recipe = tiny_recipe("fast", epochs=1)
        run = Trainer(recipe, shades(96), shades(8), seed=0, compute=compute)
        network = run.run(tmp_path / "state", recorder)
        assert not [name for name in network.state_dict() if "_orig_mod" in name]
        losses.append([loss for _, _, loss, _ in recorder.batches])
    assert len(losses[1]) == 3
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_a_missing_compiler_is_told_before_training(tmp_path):
    # In a process of its own: the compiler remembers what it found.
    done = subprocess.run(
        [sys.executable, "-m", "flatfold", "train", "--compile", "--device", "cpu", "-o", tmp_path],
        env=os.environ | {"CXX": "no-such-compiler"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("flatfold: error: --compile: PyTorch cannot compile for cpu here")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["cuda:1", "cuda:9"])
def test_a_gpu_that_is_not_there_is_told(monkeypatch, name):
    # As a machine with one GPU has it: this one may have none.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_device("auto") == torch.device("cuda")
    assert choose_device("cuda:0") == torch.device("cuda:0")
    with pytest.raises(UsageError, match=f"--device {name}: PyTorch sees 1 GPU,"):
        choose_device(name)


def test_without_the_flag_nothing_is_compiled():
    model = torch.nn.Linear(1, 1)
    assert choose_compute("cpu", "fp32").prepare(model) is model
