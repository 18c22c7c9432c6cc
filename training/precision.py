"""Where and in which precision to compute."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import torch

from flatfold.contract.errors import UsageError
from training.distributed import ALONE, Ranks


@dataclass(frozen=True)
class Compute:
    """Where and how this process computes.

    Attributes:
        device: the device.
        precision: fp32 or bf16.
        autocast: the context that gives this precision on this device.
        ranks: the processes that share the work.
    """

    device: torch.device
    precision: str
    autocast: torch.autocast
    ranks: Ranks = ALONE


def choose_device(name: str) -> torch.device:
    """Return the device called `name`; "auto" is CUDA where there is one, else the CPU.

    Raises:
        UsageError: CUDA was asked for and is not there, or the name is unknown.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(
            f"--device {name}: this PyTorch ({torch.__version__}) sees no GPU; use --device cpu"
        )
    with contextlib.suppress(RuntimeError):
        device = torch.device(name)
        if device.type in {"cpu", "cuda"}:
            return device
    raise UsageError(f"--device {name!r} is unknown; expected auto, cpu, cuda or cuda:N")


def choose_compute(device: str, precision: str) -> Compute:
    """Return where and how to compute.

    "auto" precision is bfloat16 on a GPU and on CPUs with bfloat16 instructions (AVX512-BF16 or
    AMX), where a convolution runs about 3.5 times as fast as in float32, and float32 elsewhere:
    emulated bfloat16 is slower than that.

    Raises:
        UsageError: the device is unknown or not there.
    """
    chosen = choose_device(device)
    if precision == "auto":
        precision = "bf16" if chosen.type == "cuda" or _cpu_has_bf16() else "fp32"
    autocast = torch.autocast(chosen.type, torch.bfloat16, enabled=precision == "bf16")
    return Compute(chosen, precision, autocast)


def _cpu_has_bf16() -> bool:
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
