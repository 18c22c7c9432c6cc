"""What the calls in a torch.export graph are called in ONNX, whose rules then apply to them.

"Linear" and "View" are no operators of ONNX; `module_rules.py` has the rules for them.

Only what a rule looks at is translated: operands, and the attributes that decide whether an
affine may pass. A call that is not in the table stays in the way, under its own name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING, Any, TypeAlias

import onnx
import torch
from torch import fx
from torch.fx.experimental.symbolic_shapes import statically_known_true

if TYPE_CHECKING:
    from collections.abc import Callable

aten = torch.ops.aten
NUMBER_MINUS = aten.rsub.Scalar  # `1 - x`; all else takes numbers where it takes tensors
Make: TypeAlias = "Callable[[dict[str, Any], fx.Node], Translation | None]"  # arguments by name


@dataclass(frozen=True)
class Translation:
    """One call as an ONNX operator.

    Attributes:
        op_type: ONNX's name for it.
        operands: fx nodes, numbers, tensors or None, in the order of ONNX's inputs.
        attributes: ONNX attributes that rules read.
        roles: the operands' names in the call's own schema, wherever a rule may replace them; ()
            where they have the same order there. A bias without one turns the call into a linear.
    """

    op_type: str
    operands: tuple[Any, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    roles: tuple[str, ...] = ()


def operator(node: Any) -> Any:
    """Return the operator that a node calls, whatever its overload; None for other nodes."""
    return getattr(node.target, "overloadpacket", None) if isinstance(node, fx.Node) else None


def call_name(node: fx.Node) -> str:
    """Return the calling module and the call's own name, e.g. "features.1/conv2d_3"."""
    owner = next(reversed((node.meta.get("nn_module_stack") or {}).values()), ("",))[0]
    return f"{owner}/{node.name}" if owner else node.name


def value_of(node: Any) -> Any:
    """Return the tensor that stands for what a node makes (of several, the first), or None."""
    value = node.meta.get("val") if isinstance(node, fx.Node) else None
    if isinstance(value, tuple | list):
        value = value[0] if value else None
    return value if isinstance(value, torch.Tensor) else None


def translate(node: fx.Node) -> Translation | None:
    """Return what a call is in ONNX; None where no rule would look at it."""
    if getattr(node.target, "__name__", "") == "getitem" and node.args[1] == 0:
        return Translation("Identity", (node.args[0],))  # of a pool that tells its indices as well
    make = _TABLE.get(operator(node))
    return make(arguments(node), node) if make else None


def arguments(node: fx.Node) -> dict[str, Any]:
    """Return all arguments of a call by name, in the order of its schema, defaults filled in."""
    schema = node.target._schema  # type: ignore[union-attr] # noqa: SLF001  an operator's only description
    given = dict(node.kwargs)
    return {
        argument.name: node.args[place]
        if place < len(node.args)
        else given.get(argument.name, argument.default_value)
        for place, argument in enumerate(schema.arguments)
    }


def _rank(node: Any) -> int:
    value = value_of(node)
    return 0 if value is None else value.ndim


def _convolution(given: dict[str, Any], node: fx.Node) -> Translation | None:
    weight = value_of(given["weight"])
    if weight is None or weight.ndim != _rank(node):  # without a batch axis, channels come first
        return None
    attributes: dict[str, Any] = {"group": given["groups"]}
    if isinstance(given["padding"], str):
        attributes["auto_pad"] = {"same": "SAME_UPPER", "valid": "VALID"}[given["padding"]]
    else:
        attributes["pads"] = list(given["padding"]) * 2
    if "output_padding" in given:
        attributes["output_padding"] = list(given["output_padding"])
    attributes["strides"] = list(given["stride"])
    operands = (given["input"], given["weight"], given["bias"])
    return Translation(
        "ConvTranspose" if "output_padding" in given else "Conv", operands, attributes
    )


def _linear(*roles: str, turned: bool = False) -> Make:
    """`input weight + bias`, which have these names; `turned` where the weight is transposed."""

    def make(given: dict[str, Any], _: fx.Node) -> Translation | None:
        operands = tuple(given[role] for role in roles)
        weight = value_of(operands[1])
        if weight is None or weight.ndim != 2:
            return None
        bias = () if len(operands) == 3 else (None,)
        attributes: dict[str, Any] = {"transB": int(turned)}
        attributes |= {name: float(given[name]) for name in ("alpha", "beta") if name in given}
        return Translation("Linear", operands + bias, attributes, roles)

    return make


def _batch_norm(given: dict[str, Any], _: fx.Node) -> Translation:
    """Without gamma and beta they are 1 and 0; the statistics know how many: sizes may be free."""
    mean = value_of(given["running_mean"])
    if mean is not None:
        for name, fill in (("weight", 1.0), ("bias", 0.0)):
            if given[name] is None:
                given[name] = torch.full(mean.shape, fill)
    names = ("input", "weight", "bias", "running_mean", "running_var")
    attributes = {"epsilon": given["eps"], "training_mode": int(given["training"])}
    return Translation("BatchNormalization", tuple(given[name] for name in names), attributes)


def _average_pool(given: dict[str, Any], _: fx.Node) -> Translation | None:
    if given.get("divisor_override"):
        return None
    attributes = {
        "pads": list(given["padding"]) * 2,
        "ceil_mode": int(given["ceil_mode"]),
        "count_include_pad": int(given["count_include_pad"]),
    }
    return Translation("AveragePool", (given["self"],), attributes)


def _reduction(op_type: str) -> Make:
    def make(given: dict[str, Any], _: fx.Node) -> Translation | None:
        if given.get("dtype") is not None or not given.get("dim"):
            return None
        axes = given["dim"] if isinstance(given["dim"], list | tuple) else [given["dim"]]
        attributes = {"axes": list(axes), "keepdims": int(given["keepdim"])}
        return Translation(op_type, (given["self"],), attributes)

    return make


def _dropout(given: dict[str, Any], _: fx.Node) -> Translation:
    return Translation("Dropout", (given["input"], None, 1 if given["train"] else None))


def _cat(given: dict[str, Any], node: fx.Node) -> Translation:
    return Translation("Concat", tuple(given["tensors"]), {"axis": given["dim"] % _rank(node)})


def _view(given: dict[str, Any], node: fx.Node) -> Translation | None:
    source, target = value_of(given["self"]), value_of(node)
    if source is None or target is None or source.dtype != target.dtype:  # bytes read anew
        return None
    pairs = zip(source.shape, target.shape, strict=False)
    same = takewhile(lambda sizes: statically_known_true(sizes[0] == sizes[1]), pairs)
    return Translation("View", (given["self"],), {"leading": len(list(same))})


def _permutation(given: dict[str, Any], node: fx.Node) -> Translation:
    order = list(range(_rank(node)))
    if "dims" in given:
        order = [axis % len(order) for axis in given["dims"]]
    else:
        first, second = given["dim0"], given["dim1"]
        order[first], order[second] = order[second], order[first]
    return Translation("Transpose", (given["self"],), {"perm": order})


def _pad(given: dict[str, Any], node: fx.Node) -> Translation | None:
    """Torch counts from the last axis on, begin and end of each together."""
    if not all(isinstance(size, int) for size in given["pad"]):
        return None
    rank = _rank(node)
    pads = [0] * (2 * rank)
    for place, (begin, end) in enumerate(
        zip(given["pad"][::2], given["pad"][1::2], strict=True), start=1
    ):
        pads[rank - place], pads[2 * rank - place] = begin, end
    modes = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    attributes = {"mode": modes[given["mode"]], "pads": pads}
    return Translation("Pad", (given["self"],), attributes | {"value": float(given["value"] or 0)})


def _arithmetic(op_type: str, *roles: str) -> Make:
    """`left op right`, which have these names; numbers may be among them."""

    def make(given: dict[str, Any], node: fx.Node) -> Translation | None:
        overload = getattr(node.target, "_overloadname", "")
        if overload != "Tensor" and node.target is not NUMBER_MINUS:
            return None
        if given.get("alpha", 1) != 1:
            return None
        operands = tuple(given[role] for role in roles)
        types = {value.dtype for value in map(value_of, (*operands, node)) if value is not None}
        if len(types) > 1:  # it converts as well, which its readers rely on
            return None
        return Translation(op_type, operands, roles=roles)

    return make


def _cast(given: dict[str, Any], node: fx.Node) -> Translation | None:
    value = value_of(node)
    if value is None or not isinstance(given.get("dtype"), torch.dtype):
        return None
    return Translation("Cast", (given["self"],), {"to": element(value.dtype)})


def _plain(op_type: str, **attributes: Any) -> Callable[[dict[str, Any], fx.Node], Translation]:
    """An operator of one operand, its first argument."""
    return lambda given, _: Translation(op_type, (next(iter(given.values())),), attributes)


def element(dtype: torch.dtype) -> int:
    """Return the TensorProto.DataType of a torch dtype, 0 where folding knows none."""
    known: dict[torch.dtype, int] = {
        torch.float16: onnx.TensorProto.FLOAT16,
        torch.bfloat16: onnx.TensorProto.BFLOAT16,
        torch.float32: onnx.TensorProto.FLOAT,
        torch.float64: onnx.TensorProto.DOUBLE,
    }
    return known.get(dtype, 0)


_FAMILIES: list[tuple[str, Make]] = [
    ("conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d", _convolution),
    ("linear", _linear("input", "weight", "bias", turned=True)),
    ("matmul", _linear("self", "other")),
    ("mm", _linear("self", "mat2")),
    ("addmm", _linear("mat1", "mat2", "self")),
    ("batch_norm", _batch_norm),
    ("max_pool1d max_pool2d max_pool3d", _plain("MaxPool")),
    ("adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d", _plain("GlobalMaxPool")),
    ("avg_pool1d avg_pool2d avg_pool3d", _average_pool),
    ("adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d", _plain("GlobalAveragePool")),
    ("mean", _reduction("ReduceMean")),
    ("amax", _reduction("ReduceMax")),
    ("dropout feature_dropout", _dropout),
    ("clone contiguous alias detach", _plain("Identity")),
    ("to _to_copy", _cast),
    ("flatten reshape reshape_as view view_as unflatten squeeze unsqueeze", _view),
    ("permute transpose", _permutation),
    ("upsample_nearest1d upsample_linear1d", _plain("Resize", axes=[2])),
    ("upsample_nearest2d upsample_bilinear2d upsample_bicubic2d", _plain("Resize", axes=[2, 3])),
    ("upsample_nearest3d upsample_trilinear3d", _plain("Resize", axes=[2, 3, 4])),
    ("pixel_shuffle", lambda given, _: Translation(
        "DepthToSpace", (given["self"],), {"blocksize": given["upscale_factor"], "mode": "CRD"})),
    ("pad", _pad),
    ("cat", _cat),
    ("add", _arithmetic("Add", "self", "other")), ("sub", _arithmetic("Sub", "self", "other")),
    ("mul", _arithmetic("Mul", "self", "other")), ("div", _arithmetic("Div", "self", "other")),
    ("rsub", _arithmetic("Sub", "other", "self")),
]  # fmt: skip
_TABLE = {getattr(aten, name): make for names, make in _FAMILIES for name in names.split()}
