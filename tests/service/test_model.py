import numpy as np
import pytest
from onnx import TensorProto

from flatfold.contract.card import Card
from service.model import Model, ModelError
from service.runtime import OpenSession, RuntimeOptions, open_session
from tests.service import onnx_models


def test_load_reads_the_card_and_the_graph(tmp_path):
    model = Model.load(onnx_models.picture_classifier(tmp_path / "file.onnx", name="tiny"))
    assert model.name == "tiny"
    assert model.card.labels == ("red", "green", "blue")
    assert [str(spec) for spec in model.inputs] == ["images UINT8 [-1, 8, 8, 3]"]
    assert model.output_names == ("logits", "probabilities")
    assert model.batchable


def test_what_runs_a_model_is_one_line_of_the_log(tmp_path, caplog):
    with caplog.at_level("INFO"):
        Model.load(onnx_models.picture_classifier(tmp_path / "m.onnx", name="tiny"), version="3")
    (told,) = (r.getMessage() for r in caplog.records if r.name == "service.model")
    assert told.startswith("model tiny version 3 runs on cpu (onnxruntime ")


def test_run_computes_what_was_asked_for(tmp_path):
    model = Model.load(onnx_models.picture_classifier(tmp_path / "m.onnx"))
    pictures = np.zeros((2, 8, 8, 3), np.uint8)
    pictures[1, ..., 2] = 255
    result = model.run({"images": pictures}, ["logits"])
    assert list(result) == ["logits"]
    np.testing.assert_allclose(result["logits"], [[0, 0, 0], [0, 0, 1]], atol=1e-6)
    assert model.executions.by_rows()[2].count == 1


def test_without_batches_a_run_counts_as_one_whatever_its_shape(tmp_path):
    model = Model.load(onnx_models.adder(tmp_path / "m.onnx"))
    for length in (1, 5, 9):
        model.run({name: np.ones(length, np.float32) for name in "ab"})
    assert {rows: total.count for rows, total in model.executions.by_rows().items()} == {1: 3}


def test_bound_memory_gives_the_same_result(tmp_path):
    model = Model.load(onnx_models.picture_classifier(tmp_path / "m.onnx"))
    pictures = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    plain = model.run({"images": pictures})
    model._bound = True  # what a CUDA session does, on the CPU's memory
    bound = model.run({"images": pictures})
    np.testing.assert_array_equal(plain["probabilities"], bound["probabilities"])


def test_texts_are_bound_to_no_device(tmp_path):
    path = onnx_models.identity(tmp_path / "m.onnx", TensorProto.STRING)
    session = open_session(path, RuntimeOptions(provider="cpu")).session
    model = Model(OpenSession(session, "cuda"), path, name="m", version="1", card=None)
    texts = np.array([["a", "b"]], object)
    assert model.run({"x": texts})["y"].tolist() == texts.tolist()


@pytest.mark.parametrize(("asked", "settled"), [(0, 16), (5, 5)])
def test_a_call_takes_as_many_rows_as_was_asked_for(tmp_path, asked, settled):
    model = Model.load(onnx_models.picture_classifier(tmp_path / "m.onnx"))
    model.warm_up(asked)
    assert model.max_batch == settled
    assert model.executions.by_rows() == {}


def test_on_a_device_the_batch_size_is_measured(tmp_path, monkeypatch):
    model = Model.load(onnx_models.picture_classifier(tmp_path / "m.onnx"))
    model._bound = True  # what a CUDA session does, on the CPU's memory
    ran = []
    monkeypatch.setattr(model, "_seconds", lambda rows: ran.append(rows) or max(1.0, rows / 32))
    model.warm_up(0)
    assert model.max_batch == 32
    assert ran == [1, 16, 16, 16, 32, 32, 32, 64, 64, 64, 32]


def test_a_model_that_takes_no_batches_keeps_to_one(tmp_path):
    model = Model.load(onnx_models.batch_mean(tmp_path / "m.onnx"))
    model.warm_up(8)
    assert model.max_batch == 1


def test_a_batch_that_does_not_run_is_a_clear_error(tmp_path, monkeypatch):
    model = Model.load(onnx_models.picture_classifier(tmp_path / "m.onnx"))

    def run(feeds, outputs=None):
        raise RuntimeError("no memory")

    monkeypatch.setattr(model, "run", run)
    with pytest.raises(ModelError, match="does not run a batch of 1: no memory"):
        model.warm_up(4)


def test_what_no_memory_can_hold_is_a_clear_error(tmp_path):
    path = onnx_models.picture_classifier(tmp_path / "m.onnx", size="side", card=False)
    with pytest.raises(ModelError, match="does not score a picture of 1000000000x1000000000"):
        Model.load(path, card=Card(name="x", labels=tuple("abc"), height=10**9, width=10**9))
    model = Model.load(onnx_models.picture_classifier(tmp_path / "m.onnx"))
    with pytest.raises(ModelError, match="does not run a batch of 1000000000000000000"):
        model.warm_up(10**18)


def test_a_file_without_a_card_is_named_by_its_stem(tmp_path):
    model = Model.load(onnx_models.adder(tmp_path / "adder.onnx"))
    assert (model.name, model.card, model.batchable) == ("adder", None, False)


def test_a_card_may_be_given_for_a_file_without_one(tmp_path):
    path = onnx_models.picture_classifier(tmp_path / "m.onnx", card=False)
    card = Card(name="given", labels=("a", "b", "c"), height=8, width=8)
    assert Model.load(path, card=card).card == card


@pytest.mark.parametrize(
    ("card", "message"),
    [
        (
            Card(name="x", labels=("a", "b", "c"), height=9, width=8),
            r"promises one input UINT8 \[-1, 9, 8, 3\]",
        ),
        (Card(name="x", labels=("a", "b"), height=8, width=8), "names 2 labels"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(tmp_path, card, message):
    path = onnx_models.picture_classifier(tmp_path / "m.onnx", card=False)
    with pytest.raises(ModelError, match=message):
        Model.load(path, card=card)


def test_free_columns_that_turn_out_wrong_are_refused(tmp_path):
    path = onnx_models.scorer(tmp_path / "m.onnx", free=True)
    assert Model.load(path, card=Card(name="x", labels=tuple("abc"), height=8, width=8)).scores
    with pytest.raises(ModelError, match=r"does not score a picture of 8x8: .* expected 2 columns"):
        Model.load(path, card=Card(name="x", labels=tuple("ab"), height=8, width=8))


def test_rows_that_influence_each_other_never_share_a_batch(tmp_path):
    assert not Model.load(onnx_models.batch_mean(tmp_path / "m.onnx")).batchable


def test_a_model_that_drops_rows_by_what_it_sees_is_believed_when_it_says_so(tmp_path):
    assert not Model.load(onnx_models.kept(tmp_path / "m.onnx", "good")).batchable


@pytest.mark.parametrize("kind", [TensorProto.STRING, TensorProto.BOOL, TensorProto.FLOAT16])
def test_every_element_type_loads(tmp_path, kind):
    assert Model.load(onnx_models.identity(tmp_path / "m.onnx", kind)).batchable


def test_an_element_type_that_the_protocol_lacks_is_refused(tmp_path):
    path = onnx_models.identity(tmp_path / "m.onnx", TensorProto.BFLOAT16)
    with pytest.raises(ModelError):
        Model.load(path)


@pytest.mark.parametrize("data", [b"", b"not onnx", b"\x08\x08\x12\x00" * 9])
def test_a_corrupt_file_is_a_clear_error(tmp_path, data):
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"m\.onnx"):
        Model.load(path)


@pytest.mark.parametrize("text", [b"images", b"logits", b"batch", b"red"])
def test_a_text_that_is_not_utf8_is_a_clear_error(tmp_path, text):
    path = onnx_models.picture_classifier(tmp_path / "m.onnx")
    path.write_bytes(path.read_bytes().replace(text, b"\xff" + text[1:]))
    with pytest.raises(ModelError, match=r"m\.onnx is damaged: a text in it is not UTF-8"):
        Model.load(path)


def test_a_missing_file_is_a_clear_error(tmp_path):
    with pytest.raises(ModelError, match="no model at"):
        Model.load(tmp_path / "none.onnx")


def test_a_card_whose_name_no_address_can_hold_is_refused_unless_a_folder_names_it(tmp_path):
    path = onnx_models.picture_classifier(tmp_path / "m.onnx", name="org/model")
    with pytest.raises(ModelError, match=r"'org/model', and no address leads to .* folder"):
        Model.load(path)
    assert Model.load(path, name="m").name == "m"


def test_a_card_without_a_name_leaves_the_file_its_own(tmp_path):
    path = onnx_models.picture_classifier(tmp_path / "m.onnx", name="")
    assert Model.load(path).name == "m"
