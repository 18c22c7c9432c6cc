"""Fold a zoo of networks: what folded, what stayed and why, how well the outputs agree.

The networks are those of a folder that you bring: a Python package `models` whose functions build
them, such as github.com/kuangliu/pytorch-cifar.

    python -m benchmarks.zoo --models-dir pytorch-cifar --data-dir cifar-10-batches-bin

Each network gets random gammas of both signs, random betas, and the running statistics that real
pictures then have in it: a fresh batch norm is nearly the identity and would hide a wrong fold.
Then it learns for `--steps` steps; with 0 it stays as it began.
An error is the RMS of a class's difference over the RMS of that class, the worst of all classes,
over real pictures. Float32 rounds, so the original has an error of its own, to PyTorch in float64.
The fold's own error is that of the folded file, its weights rounded to float32 once, when all that
follows is computed in float64. The proof is the one that `flatfold fold` asks for before it writes.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from torch import nn

from benchmarks.zoo_training import as_inputs, train
from export.comparison import ProofError
from export.float64 import run_float64
from export.folding import fold_model
from export.proof import prove
from tests.export.oracle import run_onnxruntime
from training.data import load_cifar10

if TYPE_CHECKING:
    from collections.abc import Callable

PICTURES = 64
PICTURES_IN_FLOAT64 = 16
PROOF_SAMPLES = 16
LEAST_VARIANCE = 0.05
NETWORKS: dict[str, Callable[[Any], nn.Module]] = {
    "VGG16": lambda models: models.VGG("VGG16"),
    "ResNet18": lambda models: models.ResNet18(),
    "ResNet50": lambda models: models.ResNet50(),
    "PreActResNet18": lambda models: models.PreActResNet18(),
    "GoogLeNet": lambda models: models.GoogLeNet(),
    "DenseNet (cifar)": lambda models: models.densenet_cifar(),
    "ResNeXt29_2x64d": lambda models: models.ResNeXt29_2x64d(),
    "MobileNet": lambda models: models.MobileNet(),
    "MobileNetV2": lambda models: models.MobileNetV2(),
    "DPN26": lambda models: models.DPN26(),
    "SENet18": lambda models: models.SENet18(),
    "ShuffleNetG2": lambda models: models.ShuffleNetG2(),
    "ShuffleNetV2": lambda models: models.ShuffleNetV2(1),
    "EfficientNetB0": lambda models: models.EfficientNetB0(),
    "RegNetX_200MF": lambda models: models.RegNetX_200MF(),
    "RegNetY_400MF": lambda models: models.RegNetY_400MF(),
    "SimpleDLA": lambda models: models.SimpleDLA(),
    "DLA": lambda models: models.DLA(),
    "PNASNetA": lambda models: models.PNASNetA(),
}


def randomised(network: nn.Module, pictures: torch.Tensor) -> nn.Module:
    """Give the batch norms random affines, and the statistics of their inputs."""
    torch.manual_seed(0)
    with torch.no_grad():
        for norm in network.modules():
            if isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None:
                sign = torch.where(torch.rand_like(norm.weight) < 0.3, -1.0, 1.0)
                norm.weight.copy_(sign * (0.5 + torch.rand_like(norm.weight)))
                norm.bias.copy_(0.3 * torch.randn_like(norm.bias))
                norm.momentum = None  # the statistics become those of the next batch
                norm.reset_running_stats()
        network.train()(pictures)
        for norm in network.modules():
            if isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None:
                # An untrained channel that hardly varies would be blown up, its rounding with it.
                norm.running_var.clamp_(min=LEAST_VARIANCE)
    return network.eval()


def relative_error(wanted: np.ndarray, found: np.ndarray) -> float:
    """Return the worst class's RMS difference over its RMS; both are (pictures, classes)."""
    difference = np.sqrt(np.mean((wanted.astype(np.float64) - found) ** 2, axis=0))
    return float((difference / np.sqrt(np.mean(wanted.astype(np.float64) ** 2, axis=0))).max())


def proven(original: onnx.ModelProto, folded: onnx.ModelProto) -> str:
    """Return whether the proof holds, with the largest error on random inputs."""
    try:
        worst = prove(original, folded, samples=PROOF_SAMPLES).worst
    except ProofError as error:
        print(error, file=sys.stderr)
        if error.proof is None:
            return "no"
        worst = error.proof.worst
    return f"{'yes' if worst.excess <= 1 else 'no'}: {worst.error:.1e} of {worst.allowed:.1e}"


def exported(network: nn.Module) -> onnx.ModelProto:
    """Export with torch, its own fusion off, so that every fold is ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            (torch.randn(2, 3, 32, 32),),
            dynamo=True,
            optimize=False,
            verbose=False,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
    assert program is not None
    return program.model_proto


def measured(network: nn.Module, pictures: torch.Tensor) -> list[str]:
    """Return the cells of one row; the reasons of what stayed go to the error output."""
    original = exported(network)
    start = time.perf_counter()
    folded, report = fold_model(original)
    seconds = time.perf_counter() - start
    onnx.checker.check_model(folded, full_check=True)
    inputs = {original.graph.input[0].name: pictures.numpy()}
    before, after = (run_onnxruntime(model, inputs)[0] for model in (original, folded))
    with torch.no_grad():
        truth = network.double()(pictures.double()).numpy()
    few = pictures[:PICTURES_IN_FLOAT64].numpy()
    exact = run_float64(folded, {original.graph.input[0].name: few})
    if exact is None:
        raise TypeError("the folded model does not run in float64")
    (exactly,) = exact.values()
    agreement = np.mean(before.argmax(axis=1) == after.argmax(axis=1))
    reasons = Counter(kept.reason.partition("forward: ")[2] or kept.reason for kept in report.kept)
    print(*reasons.items(), sep="\n", file=sys.stderr)
    return [
        str(len(report.verdicts)),
        str(len(report.folded)),
        str(len(report.kept)),
        f"{seconds:.2f}",
        f"{relative_error(before, after):.1e}",
        f"{relative_error(truth, before):.1e}",
        f"{relative_error(truth, after):.1e}",
        f"{relative_error(truth[:PICTURES_IN_FLOAT64], exactly):.1e}",
        proven(original, folded),
        f"{agreement:.2%}",
        str(len(np.unique(before.argmax(axis=1)))),
    ]


def main() -> None:
    """Print a table, one network a row."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models-dir", type=Path, required=True, help="folder of the package")
    parser.add_argument("--data-dir", type=Path, required=True, help="CIFAR-10's binary files")
    parser.add_argument("--only", nargs="*", help="names of networks")
    parser.add_argument("--steps", type=int, default=60, help="of training, of 64 pictures each")
    args = parser.parse_args()
    sys.path.insert(0, str(args.models_dir))
    models = importlib.import_module("models")
    pictures = as_inputs(load_cifar10(args.data_dir, train=False).images[:PICTURES])
    lessons = load_cifar10(args.data_dir, train=True)
    print(
        "| network | BNs | folded | kept | seconds | folded to original | original to float64 "
        "| folded to float64 | the fold itself | proof | top-1 agreement | classes seen |\n"
        + "|---" * 12
        + "|"
    )
    for name, build in NETWORKS.items():
        if args.only and name not in args.only:
            continue
        torch.manual_seed(0)
        network = randomised(build(models), pictures)
        train(network, lessons, args.steps)
        network.eval()
        print(f"| {name} | {' | '.join(measured(network, pictures))} |", flush=True)


if __name__ == "__main__":
    main()
