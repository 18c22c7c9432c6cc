import numpy as np
import pytest

from service.model import Model
from service.runtime import RuntimeOptions, open_session
from tests.service import onnx_models


@pytest.fixture
def path(tmp_path):
    return onnx_models.picture_classifier(tmp_path / "m.onnx")


class Counting:
    """Stands before a session and counts its runs."""

    def __init__(self, session):
        self.session, self.runs = session, 0

    def run(self, *call):
        self.runs += 1
        return self.session.run(*call)


def opened(path, alone):
    model = Model.load(path, runtime=RuntimeOptions(intra_op_threads=1, all_cores=2, alone=alone))
    session = model._session
    share, whole = Counting(session._share), Counting(session._whole)
    session._share, session._whole = share, whole
    return model, share, whole


def test_all_cores_are_taken_while_nobody_else_has_work(path):
    others = []
    model, share, whole = opened(path, lambda: not others)
    pictures = {"images": np.full((2, 8, 8, 3), 200, np.uint8)}
    model.run(pictures)
    assert (share.runs, whole.runs) == (1, 0)  # it is still loading
    model.warm_up(8)
    assert whole.runs == 2  # with one row, and with as many as will ever come
    before = share.runs
    alone = model.run(pictures)
    assert (share.runs, whole.runs) == (before, 3)
    others.append("at work")
    shared = model.run(pictures)
    assert (share.runs, whole.runs) == (before + 1, 3)
    np.testing.assert_allclose(alone["probabilities"], shared["probabilities"], rtol=1e-6)


@pytest.mark.parametrize(
    "options",
    [{"alone": None}, {"all_cores": 1}, {"intra_op_threads": 4}],
    ids=["one process", "one core", "a number of threads that somebody named"],
)
def test_where_there_is_nothing_to_win_there_is_one_session(path, options):
    given = {"intra_op_threads": 1, "all_cores": 2, "alone": lambda: True, **options}
    session = open_session(path, RuntimeOptions(**given)).session
    assert not hasattr(session, "settle")
