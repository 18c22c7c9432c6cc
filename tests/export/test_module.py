from __future__ import annotations

import copy
import subprocess
import sys
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, weight_norm

from export import fold
from export.comparison import ProofError
from export.module import ModuleFoldError
from export.module_preparation import FoldWarning
from export.report import FoldRefusedError

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


FOLDS = {
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


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("name", FOLDS)
def test_every_batch_norm_goes_and_the_outputs_stay(name):
    module = randomised(FOLDS[name]())
    before = {key: value.clone() for key, value in module.state_dict().items()}
    folded, report = fold(module, PICTURE)
    assert report.folded
    assert not report.kept
    assert "batch_norm" not in str(folded.graph)
    other = torch.randn(5, 4, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(folded(other), module(other), rtol=1e-4, atol=1e-4)
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())


def kept(module: nn.Module, example: torch.Tensor = PICTURE) -> str:
    module = randomised(module)
    folded, report = fold(module, example)
    with torch.no_grad():
        torch.testing.assert_close(folded(example), module(example))
    assert not report.folded
    return report.kept[0].reason


def test_batch_statistics_are_kept():
    norm = nn.BatchNorm2d(6, track_running_stats=False)
    assert "batch statistics" in kept(nn.Sequential(nn.Conv2d(4, 6, 3), norm))


def test_a_negative_scale_behind_a_max_pool_is_kept():
    module = nn.Sequential(nn.Conv2d(4, 6, 3), nn.MaxPool2d(2), nn.BatchNorm2d(6))
    assert "scale below 0" in kept(module)


def test_a_second_consumer_keeps():
    def call(m, x):
        y = m.conv(x)
        return m.bn(y) + y

    assert "2 consumers" in kept(Calls(call, conv=nn.Conv2d(4, 6, 3), bn=nn.BatchNorm2d(6)))


def test_a_batch_norm_on_the_input_itself_keeps():
    assert "x cannot take" in kept(Calls(lambda m, x: m.bn(x).relu(), bn=nn.BatchNorm2d(4)))


def test_dropout_that_is_on_keeps():
    """The shift would be dropped as well."""

    def call(m, x):
        return m.bn(functional.dropout(m.conv(x), 0.5, training=True))

    module = Calls(call, conv=nn.Conv2d(4, 6, 3), bn=nn.BatchNorm2d(6))
    _, report = fold(randomised(module), PICTURE)
    assert "drops values" in report.kept[0].reason


def test_a_linear_layer_over_sequences_keeps():
    module = nn.Sequential(nn.Linear(7, 5), nn.BatchNorm1d(9))
    assert "axis 1" in kept(module, torch.randn(3, 9, 7))


def test_a_value_past_float16_keeps_and_changes_nothing():
    module = randomised(nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6))).half()
    with torch.no_grad():
        module[0].weight.fill_(1000)
        module[0].bias.zero_()
    module[1].running_mean.zero_()
    module[1].running_var.fill_(1e-4)
    folded, report = fold(module, PICTURE.half() / 1000)
    assert torch.equal(folded(PICTURE.half() / 1000), module(PICTURE.half() / 1000))
    assert "overflows" in report.kept[0].reason


def test_broken_statistics_are_refused_by_name():
    module = randomised(FOLDS["plain"]())
    module[1].running_var[2] = -1
    with pytest.raises(FoldRefusedError, match=r"1 \(batch_norm\).*variance\[2\] is negative"):
        fold(module, PICTURE)


def test_train_mode_and_fresh_statistics_are_warned_about():
    with pytest.warns(FoldWarning) as caught:
        fold(FOLDS["plain"]().train(), PICTURE)
    said = " ".join(str(warning.message) for warning in caught)
    assert "train mode" in said
    assert "num_batches_tracked is 0" in said


def test_hooks_are_warned_about_and_what_they_compute_is_kept():
    module = randomised(FOLDS["plain"]())
    module[0].register_forward_hook(lambda _module, _inputs, output: output * 2)
    with pytest.warns(FoldWarning, match="hooks"):
        folded, _ = fold(module, PICTURE)
    with torch.no_grad():
        torch.testing.assert_close(folded(PICTURE), module(PICTURE))


def test_a_quiet_module_gives_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error", FoldWarning)
        fold(randomised(FOLDS["plain"]()), PICTURE)


def flattened():
    return Calls(
        lambda m, x: m.bn(m.conv(x)).reshape(x.shape[0], -1),
        conv=nn.Conv2d(4, 4, 3),
        bn=nn.BatchNorm2d(4),
    )


def test_an_example_of_one_row_does_not_fix_the_batch():
    """torch.export takes sizes of 1 for constants: five rows would come out as one long row."""
    module = randomised(flattened())
    folded, _ = fold(module, PICTURE[:1])
    other = torch.randn(5, 4, 20, 30)
    with torch.no_grad():
        torch.testing.assert_close(folded(other), module(other), rtol=1e-4, atol=1e-4)


def test_a_size_that_the_code_insists_on_is_checked_and_not_taken_silently():
    module = randomised(nn.Sequential(flattened(), nn.Linear(144, 2)))
    folded, _ = fold(module, PICTURE)
    with pytest.raises((AssertionError, RuntimeError)):
        folded(torch.randn(3, 4, 9, 8))


def test_a_weight_that_changes_at_run_time_cannot_pass_the_proof():
    class Growing(nn.Module):
        def __init__(self):
            super().__init__()
            self.bn = nn.BatchNorm2d(4)
            self.register_buffer("filters", torch.ones(4, 4, 3, 3))

        def forward(self, x):
            self.filters.mul_(2.0)
            return self.bn(functional.conv2d(x, self.filters))

    with pytest.raises(ProofError):
        fold(randomised(Growing()), PICTURE)


def test_dropout_that_stays_on_and_dictionaries_do_not_confuse_the_proof():
    def call(m, x):
        return {"logits": functional.dropout(m.bn(m.conv(x)), 0.5, training=True)}

    module = randomised(Calls(call, conv=nn.Conv2d(4, 6, 3), bn=nn.BatchNorm2d(6)))
    folded, report = fold(module, PICTURE)
    assert report.folded
    assert folded(PICTURE)["logits"].shape == (3, 6, 6, 6)


def test_control_flow_over_data_is_refused_in_one_sentence():
    module = Calls(lambda m, x: m.conv(x) if x.sum() > 0 else x, conv=nn.Conv2d(4, 4, 3))
    with pytest.raises(ModuleFoldError, match=r"torch\.export cannot follow Calls") as caught:
        fold(randomised(module), PICTURE)
    assert "\n" not in str(caught.value)


def test_a_module_needs_an_example_and_other_things_are_no_models():
    with pytest.raises(TypeError, match="example"):
        fold(copy.deepcopy(nn.Conv2d(1, 1, 1)))
    with pytest.raises(TypeError, match="expected an onnx"):
        fold("model.onnx")


def test_importing_the_package_imports_neither_torch_nor_onnx():
    code = "import export, sys; assert not {'torch', 'onnx', 'onnxruntime'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
