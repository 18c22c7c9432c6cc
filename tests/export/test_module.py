from __future__ import annotations

import copy
import subprocess
import sys
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from export import fold
from export.module import ModuleFoldError
from export.module_preparation import FoldWarning
from export.report import FoldRefusedError
from tests.export.modules import FOLDS, PICTURE, Calls, FrozenBatchNorm, in_front, randomised


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


def test_a_frozen_batch_norm_of_plain_arithmetic_goes_as_well():
    module = nn.Sequential(nn.Conv2d(4, 6, 3), FrozenBatchNorm(6), nn.ReLU()).eval()
    folded, report = fold(module, PICTURE)
    assert len(report.absorbed) == 2
    assert "mul" not in str(folded.graph)
    with torch.no_grad():
        torch.testing.assert_close(folded(PICTURE), module(PICTURE), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_float_types_stay_what_they_are(dtype):
    module = randomised(FOLDS["concat"]()).to(dtype)
    folded, report = fold(module, PICTURE.to(dtype))
    assert not report.kept
    assert folded(PICTURE.to(dtype)).dtype == dtype
    if dtype == torch.float64:
        with torch.no_grad():
            torch.testing.assert_close(folded(PICTURE.to(dtype)), module(PICTURE.to(dtype)))


@settings(max_examples=8, deadline=None)
@given(
    groups=st.sampled_from([1, 2]),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    bias=st.booleans(),
    before=st.sampled_from(["", "relu", "average", "concat", "product"]),
    after=st.sampled_from(["conv", "linear"]),
)
def test_any_network_of_these_parts_agrees_with_float64(
    groups, stride, dilation, bias, before, after
):
    """One batch norm goes backward where it can, one forward; the original in float64 judges."""
    settings_ = {"groups": groups, "stride": stride, "dilation": dilation, "bias": bias}
    between = {
        "": lambda x: x,
        "relu": torch.relu,
        "average": lambda x: functional.avg_pool2d(x, 2, 1),
        "concat": lambda x: torch.cat([x[:, :3], x[:, 3:]], 1),
        "product": lambda x: x * -0.25,
    }[before]

    def call(m, x):
        x = m.second(between(m.first(m.conv(x))).relu())
        return m.last(x if after == "conv" else x.mean((2, 3)))

    module = randomised(
        Calls(
            call,
            conv=nn.Conv2d(4, 6, 3, **settings_),
            first=nn.BatchNorm2d(6),
            second=nn.BatchNorm2d(6),
            last=nn.Conv2d(6, 4, 1) if after == "conv" else nn.Linear(6, 4),
        )
    )
    picture = torch.randn(2, 4, 12, 12)
    folded, report = fold(module, picture)
    assert not report.kept
    with torch.no_grad():
        exact = copy.deepcopy(module).double()(picture.double())
        error = (folded(picture).double() - exact).abs().max() / exact.abs().mean()
    assert error < 2e-5


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
    assert "1 of 6 channels have a negative scale" in kept(module)


def test_a_second_consumer_keeps():
    def call(m, x):
        y = m.conv(x)
        return m.bn(y) + y

    assert "2 consumers" in kept(Calls(call, conv=nn.Conv2d(4, 6, 3), bn=nn.BatchNorm2d(6)))


def test_a_batch_norm_on_the_input_itself_keeps():
    reason = kept(Calls(lambda m, x: m.bn(x).relu(), bn=nn.BatchNorm2d(4)))
    assert "'x' is an input" in reason
    assert "forward: relu" in reason


def test_zero_padding_behind_keeps():
    reason = kept(in_front(lambda x: x, nn.Conv2d(4, 6, 3, padding=1)))
    assert "wrong at the border" in reason


def test_a_reader_that_cannot_take_it_keeps_all_forward():
    def call(m, x):
        y = m.bn(x.relu())
        return m.conv(y) + y.relu()[:, :, 1:-1, 1:-1]

    assert "relu_1" in kept(Calls(call, conv=nn.Conv2d(4, 4, 3), bn=nn.BatchNorm2d(4)))


def test_dropout_that_is_on_keeps():
    """The shift would be dropped as well."""

    def call(m, x):
        return m.bn(functional.dropout(m.conv(x), 0.5, training=True))

    module = Calls(call, conv=nn.Conv2d(4, 6, 3), bn=nn.BatchNorm2d(6))
    _, report = fold(randomised(module), PICTURE)
    assert "may drop values" in report.kept[0].reason


def test_a_linear_layer_over_sequences_keeps():
    module = nn.Sequential(nn.Linear(7, 5), nn.BatchNorm1d(9))
    assert "linear" in kept(module, torch.randn(3, 9, 7))


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
    with pytest.raises(FoldRefusedError, match=r"1/batch_norm .*variance\[2\] is negative"):
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


def test_sizes_that_torch_cannot_reason_about_are_fixed_and_the_batch_stays_free():
    """The end of every ResNet for CIFAR-10: a pool over 4x4, a view, a linear layer."""

    def call(m, x):
        x = functional.avg_pool2d(m.bn(m.conv(x)), 4)
        return m.last(x.view(x.size(0), -1))

    module = randomised(
        Calls(
            call,
            conv=nn.Conv2d(4, 6, 3, stride=8, padding=1),
            bn=nn.BatchNorm2d(6),
            last=nn.Linear(6, 2),
        )
    )
    folded, report = fold(module, torch.randn(1, 4, 32, 32))
    assert report.folded
    other = torch.randn(5, 4, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(folded(other), module(other), rtol=1e-4, atol=1e-4)
    with pytest.raises((AssertionError, RuntimeError)):
        folded(torch.randn(5, 4, 48, 48))


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
