"""Folding external data: memory for a few tensors at a time, whatever the size of the model."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks.fold_cost import write_large
from export.tensors import (
    SPILLED_BYTES,
    ExternalDataError,
    external_range,
    read_tensor,
    spill,
    spilling,
)

LAYERS, CHANNELS, KERNEL = 6, 256, 10  # 26 MB a layer
FOLD = """
import sys
from pathlib import Path
import onnx, export.folding, export.loading
from flatfold.cli import main

def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024

before = status("VmRSS")
assert main(["fold", sys.argv[1], "-o", sys.argv[2], "--no-proof"]) == 0
print(status("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_memory_stays_far_below_the_size_of_the_model(tmp_path):
    source, target = tmp_path / "large.onnx", tmp_path / "folded.onnx"
    size = write_large(source, LAYERS, CHANNELS, KERNEL)
    command = [sys.executable, "-c", FOLD, str(source), str(target)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    assert int(done.stdout.split()[-1]) < 0.7 * size
    assert {"folded.onnx", "folded.onnx.data", "large.onnx", "weights.bin"} == {
        path.name for path in tmp_path.iterdir()
    }
    names = {node.op_type for node in onnx.load(target, load_external_data=False).graph.node}
    assert names == {"Conv", "Relu"}


def test_a_spilled_array_reads_back_and_only_while_the_folder_is_given(tmp_path):
    value = np.arange(SPILLED_BYTES // 4, dtype=np.float32).reshape(2, -1)
    tensor = onnx.TensorProto()
    assert not spill(tensor, "w", value)
    with spilling(tmp_path):
        assert not spill(tensor, "w", value[:, :4])
        assert spill(tensor, "w", value)
        assert not tensor.raw_data
        np.testing.assert_array_equal(read_tensor(tensor, tmp_path / "elsewhere"), value)
    with pytest.raises(ExternalDataError, match="outside the model's folder"):
        external_range(tensor, tmp_path / "elsewhere")
