"""Fold batch norms exactly, and prove it.

`from export import fold` takes an `onnx.ModelProto` or a `torch.nn.Module`; torch is imported only
for a module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from export.report import FoldReport

__all__ = ["fold"]


@overload
def fold(model: onnx.ModelProto) -> tuple[onnx.ModelProto, FoldReport]: ...
@overload
def fold(model: nn.Module, example: Any) -> tuple[nn.Module, FoldReport]: ...
def fold(model: Any, example: Any = None) -> tuple[Any, FoldReport]:
    """Return a folded copy of a model and the report on each of its batch norms.

    Args:
        model: an ONNX model, or a PyTorch module; it is left as it is.
        example: for a module only: one input tensor, or a tuple of all inputs.

    Raises:
        FoldRefusedError: a batch norm has NaN, infinite or negative statistics; names it.
        InvalidModelError: the ONNX model breaks ONNX's rules.
        ModuleFoldError: torch cannot write the module down.
        ProofError: the folded module computes something else.
        TypeError: neither kind of model, or a module without an example.
    """
    import onnx  # noqa: PLC0415 (so that importing the package loads neither onnx nor torch)

    if isinstance(model, onnx.ModelProto):
        from export.folding import fold_model  # noqa: PLC0415 (as above)

        return fold_model(model)
    if not hasattr(model, "named_modules"):
        raise TypeError(f"expected an onnx.ModelProto or a torch.nn.Module, got {type(model)}")
    if example is None:
        raise TypeError("folding a torch.nn.Module needs an example input as second argument")
    from export.module import fold_module  # noqa: PLC0415 (torch, only for its modules)

    return fold_module(model, example)
