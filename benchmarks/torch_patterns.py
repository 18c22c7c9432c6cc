"""The patterns of the conformance table that PyTorch can say, for the peers that read modules.

Each goes by the name that it has in `tests/export/patterns*.py`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

Make = Callable[[], tuple[nn.Module, tuple[torch.Tensor, ...]]]
MODULES: dict[str, Make] = {}
PICTURE = (2, 4, 8, 8)


class Through(nn.Module):
    """Layers held by name and a function of them and the input."""

    def __init__(self, forward: Callable[..., torch.Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.function = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self, x)


def _enter(name: str, make: Callable[[], nn.Module], shape: tuple[int, ...] = PICTURE) -> None:
    MODULES[name] = lambda: (randomised(make()), (torch.randn(*shape),))


def randomised(module: nn.Module) -> nn.Module:
    """Draw all statistics, gammas of both signs included, and switch to inference."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            with torch.no_grad():
                if layer.affine:
                    layer.weight.copy_(torch.randn_like(layer.weight) + 0.5)
                    layer.weight[0] = -1.0
                    layer.bias.normal_()
                if layer.running_mean is not None and layer.running_var is not None:
                    layer.running_mean.normal_()
                    layer.running_var.uniform_(0.3, 2)
    return module.eval()


def _conv(**settings: object) -> nn.Conv2d:
    return nn.Conv2d(4, 6, 3, **settings)  # type: ignore[arg-type]  # as Conv2d's own


def _chain(*layers: nn.Module) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*layers)


_enter("conv_1d", _chain(nn.Conv1d(4, 6, 3, bias=False), nn.BatchNorm1d(6)), (2, 4, 9))
_enter("conv_2d", _chain(_conv(bias=False), nn.BatchNorm2d(6)))
_enter("conv_2d_bias", _chain(_conv(), nn.BatchNorm2d(6)))
_enter("conv_3d", _chain(nn.Conv3d(2, 4, 3), nn.BatchNorm3d(4)), (2, 2, 5, 5, 5))
_enter("conv_grouped", _chain(_conv(groups=2), nn.BatchNorm2d(6)))
_enter("conv_depthwise", _chain(nn.Conv2d(4, 8, 3, groups=4), nn.BatchNorm2d(8)))
_enter("conv_dilated", _chain(_conv(dilation=2), nn.BatchNorm2d(6)))
_enter("conv_strided", _chain(_conv(stride=2, padding=1), nn.BatchNorm2d(6)))
_enter("conv_auto_pad", _chain(_conv(padding="same"), nn.BatchNorm2d(6)))
_enter("conv_transpose_1d", _chain(nn.ConvTranspose1d(4, 6, 3), nn.BatchNorm1d(6)), (2, 4, 9))
_enter("conv_transpose_2d", _chain(nn.ConvTranspose2d(4, 6, 3, 2), nn.BatchNorm2d(6)))
_enter("conv_transpose_3d", _chain(nn.ConvTranspose3d(2, 4, 2), nn.BatchNorm3d(4)), (2, 2, 3, 3, 3))
_enter("conv_transpose_grouped", _chain(nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6)))
_enter("gemm", _chain(nn.Linear(7, 5), nn.BatchNorm1d(5)), (3, 7))
_enter("gemm_without_addend", _chain(nn.Linear(7, 5, bias=False), nn.BatchNorm1d(5)), (3, 7))
_enter("conv_identity", _chain(_conv(), nn.Identity(), nn.BatchNorm2d(6)))
_enter("conv_dropout", _chain(_conv(), nn.Dropout(), nn.BatchNorm2d(6)))
_enter("conv_two_batch_norms", _chain(_conv(), nn.BatchNorm2d(6), nn.BatchNorm2d(6)))
_enter("depth_to_space_crd", _chain(nn.Conv2d(4, 12, 3), nn.PixelShuffle(2), nn.BatchNorm2d(3)))
_enter("flatten_from_one_pixel", _chain(nn.Conv2d(4, 5, 8), nn.Flatten(), nn.BatchNorm1d(5)))
_enter("flatten_from_a_map", _chain(nn.Conv2d(4, 2, 7), nn.Flatten(), nn.BatchNorm1d(8)))
_enter("resize_nearest", _chain(_conv(), nn.Upsample(scale_factor=2), nn.BatchNorm2d(6)))
_enter("max_pool_negative", _chain(_conv(), nn.MaxPool2d(2), nn.BatchNorm2d(6)))
_enter("average_pool", _chain(_conv(), nn.AvgPool2d(2), nn.BatchNorm2d(6)))
_enter(
    "average_pool_padding_not_counted",
    _chain(_conv(), nn.AvgPool2d(3, 1, 1, count_include_pad=False), nn.BatchNorm2d(6)),
)
_enter("average_pool_padding_counted", _chain(_conv(), nn.AvgPool2d(3, 1, 1), nn.BatchNorm2d(6)))
_enter("global_average_pool", _chain(_conv(), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(6)))
_enter("forward_conv", _chain(nn.BatchNorm2d(4), _conv()))
_enter("forward_conv_grouped", _chain(nn.BatchNorm2d(4), _conv(groups=2)))
_enter("forward_gemm", _chain(nn.BatchNorm1d(7), nn.Linear(7, 5)), (3, 7))
_enter(
    "forward_flatten_gemm", _chain(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 5)), (3, 3, 2, 2)
)
_enter("forward_conv_padded", _chain(nn.BatchNorm2d(4), _conv(padding=1)))
_enter("forward_conv_transpose", _chain(nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 6, 3, 2)))
_enter(
    "conv_relu_batch_norm_conv",
    _chain(nn.Conv2d(4, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 3)),
)
_enter("affine_false", _chain(_conv(), nn.BatchNorm2d(6, affine=False)))
_enter("pre_activation", _chain(nn.BatchNorm2d(4), nn.ReLU(), _conv()))
_enter(
    "two_consumers",
    lambda: Through(
        lambda m, x: m.bn(y := m.conv(x)) + torch.relu(y), conv=_conv(), bn=nn.BatchNorm2d(6)
    ),
)
_enter(
    "one_call_of_two",
    lambda: Through(
        lambda m, x: m.conv(torch.relu(m.bn(m.conv(x)))),
        conv=nn.Conv2d(4, 4, 3),
        bn=nn.BatchNorm2d(4),
    ),
)


def _shared_weight() -> nn.Module:
    first, second = _conv(), _conv(padding=1)
    second.weight = first.weight
    return Through(
        lambda m, x: m.bn_a(m.a(x)).sum() + m.bn_b(m.b(x)),
        a=first, b=second, bn_a=nn.BatchNorm2d(6), bn_b=nn.BatchNorm2d(6),
    )  # fmt: skip


_enter("shared_weight", _shared_weight)
_enter(
    "parameters_shared_by_two",
    lambda: Through(
        lambda m, x: m.bn(m.a(x)) * m.bn(m.b(x)), a=_conv(), b=_conv(), bn=nn.BatchNorm2d(6)
    ),
)
_enter(
    "conv_mul",
    lambda: Through(lambda m, x: m.bn(2.5 * m.conv(x)), conv=_conv(), bn=nn.BatchNorm2d(6)),
)
_enter(
    "concat_of_convs",
    lambda: Through(
        lambda m, x: m.bn(torch.cat([m.a(x), m.b(x)], 1)),
        a=_conv(), b=_conv(), bn=nn.BatchNorm2d(12),
    ),
)  # fmt: skip
_enter(
    "sum_of_convs",
    lambda: Through(lambda m, x: m.bn(m.a(x) + m.b(x)), a=_conv(), b=_conv(), bn=nn.BatchNorm2d(6)),
)
_enter(
    "sum_with_skip",
    lambda: Through(
        lambda m, x: m.bn(m.conv(x) + x), conv=nn.Conv2d(4, 4, 1), bn=nn.BatchNorm2d(4)
    ),
)
_enter(
    "concat_with_input",
    lambda: Through(
        lambda m, x: m.bn(torch.cat([m.conv(x), x], 1)),
        conv=nn.Conv2d(4, 4, 1), bn=nn.BatchNorm2d(8),
    ),
)  # fmt: skip
_enter(
    "repvgg",
    lambda: Through(
        lambda m, x: functional.relu(m.bn3(m.three(x)) + m.bn1(m.one(x)) + m.bn0(x)),
        three=nn.Conv2d(4, 4, 3, padding=1, bias=False), one=nn.Conv2d(4, 4, 1, bias=False),
        bn3=nn.BatchNorm2d(4), bn1=nn.BatchNorm2d(4), bn0=nn.BatchNorm2d(4),
    ),
)  # fmt: skip
_enter(
    "acnet",
    lambda: Through(
        lambda m, x: m.bn3(m.square(x)) + m.bn2(m.wide(x)) + m.bn1(m.tall(x)),
        square=nn.Conv2d(4, 4, 3, padding=1), wide=nn.Conv2d(4, 4, (1, 3), padding=(0, 1)),
        tall=nn.Conv2d(4, 4, (3, 1), padding=(1, 0)),
        bn3=nn.BatchNorm2d(4), bn2=nn.BatchNorm2d(4), bn1=nn.BatchNorm2d(4),
    ),
)  # fmt: skip
