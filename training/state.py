"""The state of an unfinished run: everything that resuming at an epoch's end needs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from training.checkpoint import CheckpointError, read_tensors, write_tensors

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import Tensor, nn

    from training.lookahead import Lookahead

FORMAT = "flatfold.state"


@dataclass(frozen=True)
class Parts:
    """What a run is made of: named modules, named optimisers, and the slow weights if any."""

    modules: dict[str, nn.Module]
    optimisers: dict[str, torch.optim.Optimizer]
    lookahead: Lookahead | None

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor of the run under a unique name, sharing memory with it."""
        found: dict[str, Tensor] = {}
        for prefix, module in self.modules.items():
            found.update({f"{prefix}.{name}": value for name, value in module.state_dict().items()})
        for prefix, optimiser in self.optimisers.items():
            for number, parameter in enumerate(_parameters(optimiser)):
                momentum = optimiser.state.get(parameter, {}).get("momentum_buffer")
                if momentum is not None:
                    found[f"{prefix}.{number}.momentum"] = momentum
        if self.lookahead is not None:
            found.update({f"slow.{name}": value for name, value in self.lookahead.slow.items()})
        return found


def _parameters(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]


def plain(data: Any) -> Any:
    """Return `data` as JSON would give it back: tuples become lists."""
    return json.loads(json.dumps(data))


def differences(saved: Any, mine: Any, name: str = "") -> list[str]:
    """Return a phrase for each entry of two nested dicts of JSON types that is not the same."""
    if isinstance(saved, dict) and isinstance(mine, dict):
        keys = {**saved, **mine}
        return [line for key in keys for line in differences(saved.get(key), mine.get(key), key)]
    return [] if saved == mine else [f"{name} {saved!r}, not {mine!r}"]


def save(path: Path, parts: Parts, progress: dict[str, Any]) -> None:
    """Write the run's tensors and `progress` (JSON types: epoch, recipe, history) atomically."""
    tensors = {
        name: value.detach().cpu().contiguous().clone() for name, value in parts.tensors().items()
    }
    write_tensors(path, tensors, {"format": FORMAT, "progress": json.dumps(progress)})


def read_progress(path: Path) -> dict[str, Any]:
    """Return the `progress` that was saved with the state.

    Raises:
        CheckpointError: the file is not a training state, or not one of a version like this.
    """
    metadata = read_tensors(path)[1]
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not the state of a flatfold training run")
    try:
        progress: dict[str, Any] = json.loads(metadata["progress"])
        _ = progress["recipe"]["epochs"], progress["next_epoch"], progress["history"]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} is a state that this version does not read ({error!r}): delete it, or go on "
            "with the version that wrote it"
        ) from error
    return progress


def restore(path: Path, parts: Parts) -> None:
    """Copy the saved tensors into `parts`, whose shapes must be those of the saved run.

    Raises:
        CheckpointError: a tensor is missing or of another shape.
    """
    tensors = read_tensors(path)[0]
    for prefix, optimiser in parts.optimisers.items():
        for number, parameter in enumerate(_parameters(optimiser)):
            saved = tensors.get(f"{prefix}.{number}.momentum")
            if saved is not None:
                optimiser.state[parameter]["momentum_buffer"] = saved.to(parameter.device)
    for name, value in parts.tensors().items():
        if name not in tensors or tensors[name].shape != value.shape:
            raise CheckpointError(
                f"{path} does not fit this run: {name} is missing or of another shape"
            )
        value.data.copy_(tensors[name])
