"""PyTorch modules with batch norms that fold, by name, and the parts they are made of."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, weight_norm

PICTURE = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def randomised(module: nn.Module) -> nn.Module:
    """Statistics far from a fresh batch norm's, gammas of both signs."""
    torch.manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            if part.affine:
                nn.init.normal_(part.weight, 0.5)
                part.weight.data[0] = -1.0
                nn.init.normal_(part.bias)
            if part.running_mean is not None:
                part.running_mean.normal_()
                part.running_var.uniform_(0.3, 2)
                part.num_batches_tracked.fill_(1)
    return module.eval()


class Calls(nn.Module):
    """Layers by name and the function that calls them."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x):
        return self.function(self, x)


class FrozenBatchNorm(nn.Module):
    """Arithmetic on buffers, as detection networks write it."""

    def __init__(self, channels):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        for name in ("weight", "bias", "mean", "variance"):
            self.register_buffer(name, torch.rand(channels, generator=generator) + 0.5)

    def forward(self, x):
        scale = (self.weight * (self.variance + 1e-5).rsqrt()).reshape(1, -1, 1, 1)
        return x * scale + (self.bias.reshape(1, -1, 1, 1) - self.mean.reshape(1, -1, 1, 1) * scale)


class MyConv(nn.Conv2d):
    pass


class MyBatchNorm(nn.BatchNorm2d):
    pass


def functional_batch_norm():
    def call(m, x):
        return functional.batch_norm(m.conv(x), m.bn.running_mean, m.bn.running_var, eps=1e-3)

    return Calls(call, conv=nn.Conv2d(4, 6, 3), bn=nn.BatchNorm2d(6))


def one_conv_called_twice():
    return Calls(
        lambda m, x: m.bn(m.conv(x)) + m.conv(x).relu(),
        conv=nn.Conv2d(4, 6, 3),
        bn=nn.BatchNorm2d(6),
    )


def shared_weight_two_batch_norms():
    return Calls(
        lambda m, x: m.first(m.conv(x)) * m.second(m.conv(x)),
        conv=nn.Conv2d(4, 6, 3),
        first=nn.BatchNorm2d(6),
        second=nn.BatchNorm2d(6),
    )


def tied_weights():
    module = nn.Sequential(
        nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, bias=False), nn.BatchNorm2d(4)
    )
    module[2].weight = module[0].weight
    return module


def two_branches(join, channels):
    """Two convolutions of the input, joined, and a batch norm behind."""
    return Calls(
        lambda m, x: m.bn(join(m.one(x), m.two(x))),
        one=nn.Conv2d(4, 6, 3),
        two=nn.Conv2d(4, 6, 3, bias=False),
        bn=nn.BatchNorm2d(channels),
    )


def behind(function, channels=6):
    """A convolution, a function that keeps its channels, a batch norm."""
    return Calls(
        lambda m, x: m.bn(function(m.conv(x))),
        conv=nn.Conv2d(4, 6, 3),
        bn=nn.BatchNorm2d(channels),
    )


def in_front(function, *layers):
    """A ReLU, which nothing folds into, a batch norm, a function, and what takes it over."""
    return Calls(
        lambda m, x: m.last(function(m.bn(x.relu()))),
        bn=nn.BatchNorm2d(4),
        last=nn.Sequential(*layers),
    )


def two_readers():
    def call(m, x):
        y = m.bn(x.relu())
        return m.one(y) + m.two(y).relu()

    return Calls(
        call, bn=nn.BatchNorm2d(4), one=nn.Conv2d(4, 6, 3), two=nn.Conv2d(4, 6, 3, bias=False)
    )


FORWARD = {
    "into an unpadded convolution": lambda: in_front(lambda x: x, nn.Conv2d(4, 6, 3, stride=2)),
    "into a grouped one": lambda: in_front(lambda x: x, nn.Conv2d(4, 6, 3, groups=2)),
    "into one of one tap, transposed": lambda: in_front(lambda x: x, nn.ConvTranspose2d(4, 6, 1)),
    "through an average and a flatten": lambda: in_front(
        lambda x: functional.adaptive_avg_pool2d(x, 1).flatten(1), nn.Linear(4, 5)
    ),
    "through a mean": lambda: in_front(lambda x: x.mean((2, 3)), nn.Linear(4, 5)),
    "through a pool": lambda: in_front(lambda x: functional.avg_pool2d(x, 2), nn.Conv2d(4, 6, 3)),
    "through a flatten of free sizes": lambda: in_front(lambda x: x.flatten(1), nn.Linear(256, 5)),
    "through dropout and a changed layout": lambda: in_front(
        lambda x: functional.dropout(x, training=False).contiguous(), nn.Conv2d(4, 6, 1)
    ),
    "into two readers": two_readers,
    "through a difference from a number": lambda: in_front(lambda x: 1.0 - x, nn.Conv2d(4, 6, 3)),
    "into a linear layer over sequences": lambda: in_front(
        lambda x: x.flatten(2).transpose(1, 2), nn.Linear(4, 5)
    ),
    "on the input itself": lambda: nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3)),
    "between in-place activations": lambda: nn.Sequential(
        nn.Conv2d(4, 6, 3), nn.ReLU(inplace=True), nn.BatchNorm2d(6), nn.Conv2d(6, 6, 3)
    ),
}


def product(function, norm):
    """A function of a matrix and of what it reads, a batch norm behind."""
    return Calls(
        lambda m, x: m.bn(function(m.matrix.weight.t(), x)), matrix=nn.Linear(4, 6), bn=norm
    )


PRODUCTS = {
    "linear, channels last": lambda: Calls(
        lambda m, x: m.bn(m.linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)),
        linear=nn.Linear(4, 6),
        bn=nn.BatchNorm2d(6),
    ),
    "linear, then rows": lambda: Calls(
        lambda m, x: m.bn(m.linear(x).view(-1, 5)), linear=nn.Linear(8, 5), bn=nn.BatchNorm1d(5)
    ),
    "matmul": lambda: product(lambda w, x: x.mean((2, 3)) @ w, nn.BatchNorm1d(6)),
    "matmul over sequences": lambda: product(
        lambda w, x: (x.flatten(2).transpose(1, 2) @ w).transpose(1, 2), nn.BatchNorm1d(6)
    ),
    "mm": lambda: product(lambda w, x: torch.mm(x.mean((2, 3)), w), nn.BatchNorm1d(6)),
    "addmm": lambda: product(lambda w, x: torch.addmm(w[0], x.mean((2, 3)), w), nn.BatchNorm1d(6)),
    "addmm with factors": lambda: product(
        lambda w, x: torch.addmm(w[0], x.mean((2, 3)), w, alpha=0.5, beta=-2.0), nn.BatchNorm1d(6)
    ),
}

FOLDS = {
    **PRODUCTS,
    "flattened behind the channels": lambda: Calls(
        lambda m, x: m.bn(m.conv(x).flatten(2)), conv=nn.Conv2d(4, 6, 3), bn=nn.BatchNorm1d(6)
    ),
    "concat": lambda: two_branches(lambda a, b: torch.cat([a, b], 1), 12),
    "sum": lambda: two_branches(torch.add, 6),
    "average pool": lambda: behind(lambda x: functional.avg_pool2d(x, 2)),
    "average pool, padding not counted": lambda: behind(
        lambda x: functional.avg_pool2d(x, 3, padding=1, count_include_pad=False)
    ),
    "padded by reflection": lambda: behind(lambda x: functional.pad(x, (1, 2, 0, 1), "reflect")),
    "bilinear": lambda: behind(lambda x: functional.interpolate(x, (9, 7), mode="bilinear")),
    "pixel shuffle": lambda: Calls(
        lambda m, x: m.bn(functional.pixel_shuffle(m.conv(x), 2)),
        conv=nn.Conv2d(4, 24, 3),
        bn=nn.BatchNorm2d(6),
    ),
    "taken from a number": lambda: behind(lambda x: 1.0 - x),
    "constant product and sum": lambda: behind(lambda x: (x * 3.0 + 1.0) / 7.0 - 0.5),
    "turned around and back": lambda: behind(lambda x: x.permute(0, 2, 3, 1).permute(0, 3, 1, 2)),
    "changed in place": lambda: behind(lambda x: x.add_(1.0)),
    **FORWARD,
    "plain": lambda: nn.Sequential(nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6)),
    "grouped": lambda: nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.BatchNorm2d(6)),
    "same": lambda: nn.Sequential(nn.Conv2d(4, 6, 3, padding="same"), nn.BatchNorm2d(6)),
    "transposed": lambda: nn.Sequential(
        nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), nn.BatchNorm2d(6)
    ),
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(256, 5), nn.BatchNorm1d(5)),
    "twice": lambda: nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.BatchNorm2d(6)),
    "dropout": lambda: nn.Sequential(nn.Conv2d(4, 6, 3), nn.Dropout(), nn.BatchNorm2d(6)),
    "max pool": lambda: nn.Sequential(
        nn.Conv2d(4, 6, 3), nn.MaxPool2d(2), nn.BatchNorm2d(6, affine=False)
    ),
    "average": lambda: nn.Sequential(
        nn.Conv2d(4, 6, 3), nn.AdaptiveAvgPool2d((3, 2)), nn.BatchNorm2d(6)
    ),
    "nearest": lambda: nn.Sequential(
        nn.Conv2d(4, 6, 3), nn.Upsample(scale_factor=2), nn.BatchNorm2d(6)
    ),
    "sync": lambda: nn.Sequential(nn.Conv2d(4, 6, 3), nn.SyncBatchNorm(6)),
    "subclasses": lambda: nn.Sequential(MyConv(4, 6, 3), MyBatchNorm(6)),
    "weight norm": lambda: nn.Sequential(weight_norm(nn.Conv2d(4, 6, 3)), nn.BatchNorm2d(6)),
    "parametrized": lambda: nn.Sequential(
        parametrizations.weight_norm(nn.Conv2d(4, 6, 3)), nn.BatchNorm2d(6)
    ),
    "functional": functional_batch_norm,
    "one conv called twice": one_conv_called_twice,
    "shared weight, two batch norms": shared_weight_two_batch_norms,
    "tied weights": tied_weights,
}
