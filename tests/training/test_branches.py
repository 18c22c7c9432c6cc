"""Branches that a network learns with, and the exporter merges away."""

from collections import Counter
from dataclasses import replace

import onnx
import pytest
import torch

from export.pipeline import ExportSettings, export_checkpoint
from flatfold.contract.card import Card
from training import checkpoint
from training.architecture import NetworkConfig
from training.distributed import SyncedBatchNorm, synchronise_norms
from training.initialisation import initialise
from training.loop import Trainer
from training.muon import Muon
from training.network import Branches, FlatNet
from training.optimisers import build_optimisers
from training.precision import choose_compute

from .small import TINY, Recorder, shades, tiny_recipe

# Equal widths in the second block: there the first layer, before the pool, has an identity too.
PLAIN = replace(TINY, widths=(16, 16), depths=(2, 3))
BRANCHED = replace(PLAIN, branches=True)


def lived(config):
    """Return a network whose batch norms are far from the identity, gammas of both signs."""
    network = FlatNet(config)
    generator = torch.Generator().manual_seed(0)
    initialise(network, generator)
    for norm in (m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.running_mean.normal_(generator=generator)
        norm.running_var.uniform_(0.5, 2, generator=generator)
        norm.bias.data.normal_(generator=generator)
        if norm.weight.requires_grad:
            norm.weight.data.normal_(generator=generator)
    return network.eval()


def merged_by_hand(branches, conv, norm):
    """Return weight and bias of the one 3x3 convolution that a layer is, in float64."""

    def folded(weight, bn):
        scale = (bn.weight / (bn.running_var + bn.eps).sqrt()).double()
        return weight.double() * scale[:, None, None, None], bn.bias - bn.running_mean * scale

    weight, bias = folded(conv.weight, norm)
    one, shift = folded(branches.conv.weight, branches.norm)
    weight[:, :, 1:2, 1:2] += one
    bias = bias + shift
    if branches.identity is not None:
        eye = torch.eye(len(weight))[:, :, None, None]
        same, shift = folded(eye, branches.identity)
        weight[:, :, 1:2, 1:2] += same
        bias = bias + shift
    return weight, bias


@torch.no_grad()
def test_a_layer_is_one_convolution_before_its_pool():
    network = lived(BRANCHED).double()
    block = network.blocks[1]
    x = torch.randn(2, 16, 5, 5, dtype=torch.float64)
    weight, bias = merged_by_hand(block.branches[0], block.convs[0], block.norms[0])
    one = torch.nn.functional.conv2d(x, weight, bias, padding=1)
    expected = torch.nn.functional.max_pool2d(one, 2)
    assert torch.allclose(block._layer(0, x), expected, rtol=1e-9, atol=1e-9)


def test_the_identity_is_there_where_the_channels_allow():
    blocks = FlatNet(BRANCHED).blocks
    have = [[b.identity is not None for b in block.branches] for block in blocks]
    assert have == [[False, True], [True, True, True]]


def test_exported_they_are_the_plain_network(tmp_path):
    nodes = {}
    for name, config in (("plain", PLAIN), ("branched", BRANCHED)):
        card = Card(
            name=name,
            labels=tuple(f"class {i}" for i in range(10)),
            height=12,
            width=12,
            architecture=config.name,
            mean=(0.5, 0.5, 0.5),
            std=(0.25, 0.25, 0.25),
        )
        checkpoint.save(tmp_path / "model.safetensors", lived(config), card)
        exported = export_checkpoint(
            tmp_path / "model.safetensors", tmp_path / f"{name}.onnx", ExportSettings()
        )
        assert not exported.report.kept
        assert exported.proof.top1_agreement == 1
        nodes[name] = operators(tmp_path / f"{name}.onnx")
    assert nodes["branched"] == nodes["plain"]
    assert nodes["branched"]["Conv"] == 1 + sum(PLAIN.depths)


def operators(path):
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def test_without_branches_nothing_changed():
    assert not [m for m in FlatNet(PLAIN).modules() if isinstance(m, Branches)]
    assert NetworkConfig.from_dict({"widths": [16, 16], "depths": [2, 3]}).branches is False


def test_only_the_branches_weights_and_scales_are_new_to_the_optimisers():
    network = FlatNet(BRANCHED)
    held = [
        parameter
        for optimiser in build_optimisers(network, tiny_recipe("fast", network=BRANCHED))
        for group in optimiser.param_groups
        for parameter in group["params"]
    ]
    trainable = [p for p in network.parameters() if p.requires_grad]
    assert sorted(map(id, held)) == sorted(map(id, trainable))
    assert len(network.norm_scales()) == 9  # five 1x1 convolutions, four identities


def test_muon_turns_a_1x1_filter_like_any_other():
    weight = torch.nn.Parameter(torch.randn(16, 8, 1, 1))
    weight.grad = torch.randn(16, 8, 1, 1)
    before = 4 * weight.detach() / weight.norm()
    Muon([weight], lr=1.0, momentum=0.0, newton_schulz=3).step()
    values = torch.linalg.svdvals((before - weight.detach()).flatten(1))
    assert values.min() > 0.3
    assert values.max() < 1.4


@pytest.mark.parametrize(("base", "precision"), [("fast", "bf16"), ("best", "fp32")])
def test_learns_and_its_branches_move(tmp_path, base, precision):
    recipe = tiny_recipe(base)
    recipe = replace(recipe, network=replace(recipe.network, branches=True))
    compute = choose_compute("cpu", precision)
    trainer = Trainer(recipe, shades(320), shades(64, seed=9), seed=0, compute=compute)
    recorder = Recorder()
    network = trainer.run(tmp_path / "state", recorder)
    assert recorder.records[-1]["train_loss"] < recorder.records[0]["train_loss"] - 0.1
    for scale in network.norm_scales():
        assert torch.isfinite(scale).all()
        assert not torch.equal(scale, torch.ones_like(scale))


def test_the_proxy_goes_without():
    recipe = tiny_recipe("best", network=BRANCHED)
    trainer = Trainer(recipe, shades(64), shades(8), seed=0, compute=choose_compute("cpu", "fp32"))
    assert not [m for m in trainer.proxy.network.modules() if isinstance(m, Branches)]


def test_synchronised_norms_keep_what_is_learnt():
    network = FlatNet(BRANCHED)
    synchronise_norms(network)
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert all(isinstance(norm, SyncedBatchNorm) for norm in norms)
    assert len(network.norm_scales()) == 9
    assert all(scale.requires_grad for scale in network.norm_scales())
    assert not any(norm.weight.requires_grad for block in network.blocks for norm in block.norms)
