import numpy as np
import pytest

from service.probe import ProbeError, probe
from service.tensors import TensorSpec


def spec(name, shape, datatype="FP32"):
    return TensorSpec(name, datatype, shape, ("",) * len(shape))


def outcome(run, inputs=((-1, 2),), outputs=((-1, 2),)):
    """Probe a function of the first input as if it were a model; whether it may share batches."""
    specs = [spec(f"x{number}", shape) for number, shape in enumerate(inputs)]
    return probe(
        specs,
        [spec("y", shape) for shape in outputs],
        lambda feeds: {"y": run(feeds["x0"])},
    )


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
