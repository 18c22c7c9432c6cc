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
from export.module_in_place import ModuleFoldError
from export.module_preparation import FoldWarning
from export.report import FoldRefusedError
from tests.export.modules import (
    FOLDS,
    PICTURE,
    Calls,
    FrozenBatchNorm,
    behind,
    in_front,
    randomised,
)


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


MIXED = {
    "bfloat16 times float32": (torch.bfloat16, torch.float32),
    "float32 times float64": (torch.float32, torch.float64),
    "complex times float32": (torch.complex64, torch.float32),
}


@pytest.mark.parametrize("name", MIXED)
def test_arithmetic_that_changes_the_type_stays(name):
    first, second = MIXED[name]
    module = Calls(lambda m, x: m.conv(x) * m.scale, conv=nn.Conv2d(4, 6, 3, dtype=first))
    module.register_buffer("scale", torch.linspace(0.5, 2, 6, dtype=second).reshape(6, 1, 1))
    picture = PICTURE.to(first)
    folded, report = fold(module.eval(), picture)
    assert not report.absorbed
    with torch.no_grad():
        torch.testing.assert_close(folded(picture), module(picture))


@settings(max_examples=8)
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


def test_bytes_read_as_another_type_keep():
    reason = kept(behind(lambda x: x.view(torch.int32).view(torch.float32)))
    assert "view_1 (torch::view) cannot take a scale and shift over" in reason


def test_a_sum_behind_a_product_of_matrices_becomes_a_linear_layer():
    module = Calls(lambda m, x: x @ m.one.weight + m.one.bias, one=nn.Linear(8, 8)).eval()
    folded, report = fold(module, PICTURE)
    assert len(report.absorbed) == 1
    calls = [node.target for node in folded.graph.nodes if node.op == "call_function"]
    assert calls == [torch.ops.aten.linear.default]
    with torch.no_grad():
        torch.testing.assert_close(folded(PICTURE), module(PICTURE), rtol=1e-4, atol=1e-4)


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


def test_a_lazy_module_that_never_ran_is_refused_by_name():
    module = nn.Sequential(nn.LazyConv2d(6, 3), nn.LazyBatchNorm2d())
    with pytest.raises(ModuleFoldError, match=r"0\.weight has no value yet.* run the module"):
        fold(module.eval(), PICTURE)


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


def test_dropout_that_stays_on_and_dictionaries_do_not_confuse_the_proof():
    def call(m, x):
        return {"logits": functional.dropout(m.bn(m.conv(x)), 0.5, training=True)}

    module = randomised(Calls(call, conv=nn.Conv2d(4, 6, 3), bn=nn.BatchNorm2d(6)))
    folded, report = fold(module, PICTURE)
    assert report.folded
    assert folded(PICTURE)["logits"].shape == (3, 6, 6, 6)


def test_a_module_needs_an_example_and_other_things_are_no_models():
    with pytest.raises(TypeError, match="example"):
        fold(copy.deepcopy(nn.Conv2d(1, 1, 1)))
    with pytest.raises(TypeError, match="expected an onnx"):
        fold("model.onnx")


def test_importing_the_package_imports_neither_torch_nor_onnx():
    code = "import export, sys; assert not {'torch', 'onnx', 'onnxruntime'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
