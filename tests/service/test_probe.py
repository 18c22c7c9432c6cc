import numpy as np
import pytest

from service.probe import ProbeError, probe
from service.tensors import TensorSpec


def spec(name, shape, axis=""):
    return TensorSpec(name, "FP32", shape, (axis, *[""] * len(shape))[: len(shape)])


def outcome(run, inputs=((-1, 2),), outputs=((-1, 2),), axes=("", "")):
    """Probe a function of the first input as if it were a model; whether it may share batches.

    `axes` are the names of the first axis of inputs and outputs.
    """
    specs = [spec(f"x{number}", shape, axes[0]) for number, shape in enumerate(inputs)]
    return probe(
        specs,
        [spec("y", shape, axes[1]) for shape in outputs],
        lambda feeds: {"y": run(feeds["x0"])},
    )


def normal(x):
    """Each row less its mean: of a row of equal values nothing is left."""
    return x - x.mean(axis=1, keepdims=True)


def test_rows_that_are_computed_alone_may_share_a_batch():
    assert outcome(lambda x: 2 * x)


@pytest.mark.parametrize(
    "run",
    [
        lambda x: x - x.mean(axis=0),
        lambda x: x[::-1],
        lambda x: x[:1],
        lambda x: np.concatenate([x, x]),
        lambda x: np.repeat(x.sum(axis=0, keepdims=True), len(x), axis=0),
        lambda x: normal(x) - normal(x).mean(axis=0),
        lambda x: np.sort(x, axis=0),
        lambda x: np.sort(x, axis=0)[::-1],
        lambda x: np.unique(x, axis=0),
        lambda x: x[(x > 0).any(axis=1)],
    ],
)
def test_rows_that_change_or_replace_each_other_may_not(run):
    assert not outcome(run)


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        (((1, 2),), ((1, 2),)),
        (((-1, -1),), ((-1, -1),)),
        (((-1, 2),), ((-1, 2), (2,))),
        (((-1, 2), (-1, 2)), ((-1, 2),)),
        (((),), ((),)),
    ],
)
def test_only_one_input_with_only_its_first_axis_free_is_tried(inputs, outputs):
    assert not outcome(lambda x: x, inputs, outputs)


@pytest.mark.parametrize(
    ("given", "gives", "may"),
    [
        ("batch", "batch", True),
        ("batch", "", True),
        ("", "boxes", True),  # nobody named the input's
        ("batch", "num_boxes", False),
        ("N", "kept", False),
        ("batch_size", "output_batch", True),
        ("unk__6", "unk__7", True),  # tf2onnx, Keras
        ("x_dynamic_axes_1", "y_dynamic_axes_1", True),  # torch, axes without names
        ("batch", "Softmaxy_dim_0", True),  # torch, outputs without names
        ("DynamicDimension.0", "DynamicDimension.1", True),  # PaddlePaddle
        ("s77", "s77", True),  # torch.export
        ("batch", "u0", False),  # torch.export: depends on the data
        ("s77", "u0", False),
    ],
)
def test_axes_that_are_named_otherwise_may_count_something_else(given, gives, may):
    assert outcome(lambda x: x, axes=(given, gives)) == may


def test_one_output_that_counts_something_else_is_enough(caplog):
    outputs = [spec("y", (-1, 2), "batch"), spec("boxes", (-1, 4), "found")]
    with caplog.at_level("INFO"):
        assert not probe([spec("x", (-1, 2), "batch")], outputs, lambda x: {"y": x["x"]})
    assert "is given batch rows, and gives found of boxes" in caplog.text


def test_a_small_difference_between_kernels_is_no_influence():
    assert outcome(lambda x: x + 1e-4 * len(x))


def fail(_):
    raise RuntimeError("no kernel")


def test_a_model_that_does_not_run_is_refused():
    with pytest.raises(ProbeError, match="no kernel"):
        outcome(fail)


def test_a_model_of_free_sizes_may_refuse_made_up_ones():
    assert not outcome(fail, inputs=((-1, 3, -1, -1),))


def test_a_model_that_takes_no_second_row_runs_alone():
    assert not outcome(lambda x: x if len(x) == 1 else fail(x))
