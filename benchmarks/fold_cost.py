"""Measure what a fold costs: seconds for 100 batch norms, memory for 2 GB of external data.

python -m benchmarks.fold_cost            # needs 5 GB of disk for a while
python -m benchmarks.fold_cost --layers 2 --channels 2048 --kernel 8   # a few huge layers
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from export.folding import fold_model
from tests.export.sketch import Sketch


def hundred_seconds(runs: int = 5) -> list[float]:
    """Return the seconds that `fold_model` takes for 100 Conv-BN-ReLU of 64 channels, sorted."""
    s = Sketch()
    x = s.input("N", 64, 16, 16)
    for _ in range(100):
        x = s.op("Relu", s.batch_norm(s.conv(x, 64, 64, pads=[1] * 4), 64))
    s.output(x)
    model = s.model()
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        _, report = fold_model(model)
        seconds.append(time.perf_counter() - start)
        assert len(report.folded) == 100
    return sorted(seconds)


def write_large(path: Path, layers: int, channels: int, kernel: int) -> int:
    """Write Conv-BN-ReLU layers with external data, one tensor at a time; return its bytes."""
    random = np.random.default_rng(0)
    tensors, nodes, value = [], [], "x"
    with path.with_name("weights.bin").open("wb") as data:

        def store(name: str, array: np.ndarray) -> str:
            tensor = onnx.TensorProto(name=name, data_type=onnx.TensorProto.FLOAT, dims=array.shape)
            tensor.data_location = onnx.TensorProto.EXTERNAL
            place = {"location": "weights.bin", "offset": data.tell(), "length": array.nbytes}
            for key, entry in place.items():
                tensor.external_data.add(key=key, value=str(entry))
            array.tofile(data)
            tensors.append(tensor)
            return name

        for i in range(layers):
            shape = (channels, channels, kernel, kernel)
            weight = store(f"w{i}", random.standard_normal(shape, dtype=np.float32))
            nodes.append(helper.make_node("Conv", [value, weight], [f"conv{i}"], pads=[kernel] * 4))
            names = [f"{kind}{i}" for kind in ("scale", "bias", "mean", "variance")]
            for name in names:
                store(name, random.uniform(0.5, 2, channels).astype(np.float32))
            nodes.append(helper.make_node("BatchNormalization", [f"conv{i}", *names], [f"bn{i}"]))
            nodes.append(helper.make_node("Relu", [f"bn{i}"], [f"relu{i}"]))
            value = f"relu{i}"
        size = data.tell()
    infos = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", channels, "H", "W"])
        for name in ("x", value)
    ]
    graph = helper.make_graph(nodes, "large", infos[:1], infos[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return size


def main() -> None:
    """Print both figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--layers", type=int, default=14)
    parser.add_argument("--channels", type=int, default=1024)
    parser.add_argument("--kernel", type=int, default=6)
    args = parser.parse_args()
    seconds = hundred_seconds()
    print(
        f"100 batch norms: {seconds[len(seconds) // 2]:.3f} s, median of {len(seconds)} runs "
        f"({seconds[0]:.3f} to {seconds[-1]:.3f})"
    )
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "large.onnx"
        size = write_large(source, args.layers, args.channels, args.kernel)
        target = str(source.with_name("folded.onnx"))
        command = [sys.executable, "-m", "flatfold", "fold", str(source), "-o", target]
        subprocess.run([*command, "--no-proof"], check=True)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(f"{size / 1e9:.2f} GB of weights: {peak / 1e9:.2f} GB of memory, {peak / size:.2f} times")


if __name__ == "__main__":
    main()
