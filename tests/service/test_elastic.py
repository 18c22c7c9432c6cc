import numpy as np
import pytest

from service.model import Model
from service.runtime import RuntimeOptions, open_session
from tests.service import onnx_models
from tests.service.repositories import replace_file


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


def loaded(path, alone):
    model = Model.load(path, runtime=RuntimeOptions(intra_op_threads=1, all_cores=2, alone=alone))
    model._session._share = share = Counting(model._session._share)
    return model, share


def test_all_cores_are_taken_while_nobody_else_has_work(path, caplog):
    caplog.set_level("INFO")
    others = []
    model, share = loaded(path, lambda: not others)
    pictures = {"images": np.full((2, 8, 8, 3), 200, np.uint8)}
    model.warm_up(8)
    model.run(pictures)
    before = share.runs
    model.widen()
    model._session._whole = whole = Counting(model._session._whole)
    alone = model.run(pictures)
    assert (share.runs, whole.runs) == (before, 1)
    others.append("at work")
    shared = model.run(pictures)
    assert (share.runs, whole.runs) == (before + 1, 1)
    np.testing.assert_allclose(alone["probabilities"], shared["probabilities"], rtol=1e-6)
    model.widen()
    assert model._session._whole is whole
    assert caplog.text.count("takes all cores") == 1


def test_a_file_that_changed_meanwhile_never_answers_beside_the_old_one(path, caplog):
    model, share = loaded(path, lambda: True)
    model.warm_up(8)
    replace_file(onnx_models.picture_classifier, path, gain=2)
    model.widen()
    before = share.runs
    model.run({"images": np.zeros((1, 8, 8, 3), np.uint8)})
    assert share.runs == before + 1
    assert "keeps to its share of the cores" in caplog.text
    assert "has changed since it was loaded" in caplog.text


@pytest.mark.parametrize(
    "options",
    [{"alone": None}, {"all_cores": 1}, {"intra_op_threads": 4}],
    ids=["one process", "one core", "a number of threads that somebody named"],
)
def test_where_there_is_nothing_to_win_there_is_one_session(path, options):
    given = {"intra_op_threads": 1, "all_cores": 2, "alone": lambda: True, **options}
    session = open_session(path, RuntimeOptions(**given)).session
    assert not hasattr(session, "widen")
