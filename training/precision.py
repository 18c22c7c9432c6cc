"""Where and in which precision to compute."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch

from flatfold.contract.errors import UsageError
from training.distributed import ALONE, Ranks

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Compute:
    """Where and how this process computes.

    Attributes:
        device: the device.
        precision: fp32 or bf16.
        autocast: the context that gives this precision on this device.
        ranks: the processes that share the work.
        compiled: learn through torch.compile.
    """

    device: torch.device
    precision: str
    autocast: torch.autocast
    ranks: Ranks = ALONE
    compiled: bool = False

    def prepare(self, model: nn.Module) -> nn.Module:
        """Return `model` as steps are to call it: compiled, with the same weights, if asked for."""
        return cast("nn.Module", torch.compile(model, dynamic=False)) if self.compiled else model


def choose_device(name: str) -> torch.device:
    """Return the device called `name`; "auto" is CUDA where there is one, else the CPU.

    Raises:
        UsageError: CUDA, or the GPU of that number, was asked for and is not there, or the name is
            unknown.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(
            f"--device {name}: this PyTorch ({torch.__version__}) sees no GPU; use --device cpu"
        )
    with contextlib.suppress(RuntimeError):
        device = torch.device(name)
        if device.type == "cuda" and (device.index or 0) >= (found := torch.cuda.device_count()):
            raise UsageError(
                f"--device {name}: PyTorch sees {found} GPU{'s' * (found != 1)}, numbered from 0; "
                "give the number of one of them, or start as many processes as there are"
            )
        if device.type in {"cpu", "cuda"}:
            return device
    raise UsageError(f"--device {name!r} is unknown; expected auto, cpu, cuda or cuda:N")


def choose_compute(device: str, precision: str, *, compiled: bool = False) -> Compute:
    """Return where and how to compute.

    "auto" precision is bfloat16 on a GPU and on CPUs with bfloat16 instructions (AVX512-BF16 or
    AMX), where a convolution runs about 3.5 times as fast as in float32, and float32 elsewhere:
    emulated bfloat16 is slower than that.

    Raises:
        UsageError: the device is unknown or not there, or torch.compile finds no compiler.
    """
    chosen = choose_device(device)
    if precision == "auto":
        precision = "bf16" if chosen.type == "cuda" or _cpu_has_bf16() else "fp32"
    autocast = torch.autocast(chosen.type, torch.bfloat16, enabled=precision == "bf16")
    if compiled:
        check_compiler(chosen)
    return Compute(chosen, precision, autocast, compiled=compiled)


def check_compiler(device: torch.device) -> None:
    """Compile a trifle, so that a missing compiler is told before anything is loaded or trained.

    Raises:
        UsageError: torch.compile does not work for this device.
    """
    trifle = torch.compile(lambda x: (x + 1).relu(), options={"fx_graph_cache": False})
    try:
        trifle(torch.zeros(8, device=device))
    except Exception as error:  # the compiler's back ends raise what they like
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UsageError(
            f"--compile: PyTorch cannot compile for {device.type} here: {reason[0]}; install a C++ "
            "compiler (for a GPU: Triton, too), or leave --compile out"
        ) from error


def _cpu_has_bf16() -> bool:
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
