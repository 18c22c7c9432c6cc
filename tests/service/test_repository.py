import asyncio

import pytest

from service.errors import ModelNotFoundError
from service.model import ModelError
from tests.service import onnx_models
from tests.service.repositories import gain, replace_file, repository

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


def index(models):
    return {(entry.name, entry.version): (entry.state, entry.reason) for entry in models.index()}


async def test_a_file_a_folder_and_triton_versions_are_served_at_once(tmp_path):
    single = onnx_models.picture_classifier(tmp_path / "some-file.onnx", name="from-card")
    folder = tmp_path / "models"
    onnx_models.adder(folder / "adder.onnx")
    for version in (1, 2, 10):
        onnx_models.picture_classifier(folder / f"scores/{version}/model.onnx", gain=version)
    models = repository(single, folder)
    await models.open()
    assert {served.model.name for served in models.all()} == {"from-card", "adder", "scores"}
    assert models.versions("scores") == ("1", "2", "10")
    assert gain(models.get("scores")) == 10
    assert gain(models.get("scores", "2")) == 2


async def test_a_request_that_names_no_model_gets_the_only_or_the_chosen_one(tmp_path):
    path = onnx_models.adder(tmp_path / "adder.onnx")
    one = repository(path)
    await one.open()
    assert one.get().model.name == "adder"
    onnx_models.adder(tmp_path / "other.onnx")
    two = repository(tmp_path)
    await two.open()
    with pytest.raises(ModelNotFoundError, match="name a model: adder, other"):
        two.get()
    chosen = repository(tmp_path, default="other")
    await chosen.open()
    assert chosen.get().model.name == "other"


@pytest.mark.parametrize(("name", "version"), [("none", None), ("adder", "2"), ("adder", "x")])
async def test_an_unknown_name_or_version_says_what_there_is(tmp_path, name, version):
    models = repository(onnx_models.adder(tmp_path / "adder.onnx"))
    await models.open()
    with pytest.raises(ModelNotFoundError, match=r"served: adder|it has 1"):
        models.get(name, version)


async def test_two_files_for_one_name_and_version_are_refused(tmp_path):
    onnx_models.adder(tmp_path / "adder.onnx")
    onnx_models.adder(tmp_path / "adder/1/model.onnx")
    with pytest.raises(ModelError, match="rename one"):
        await repository(tmp_path).open()


async def test_an_empty_or_missing_folder_is_a_clear_error(tmp_path):
    with pytest.raises(ModelError, match="no model in"):
        await repository(tmp_path).open()
    with pytest.raises(ModelError, match=r"neither an \.onnx file nor a folder"):
        await repository(tmp_path / "none").open()


async def test_a_default_that_is_not_there_is_refused(tmp_path):
    onnx_models.adder(tmp_path / "adder.onnx")
    with pytest.raises(ModelNotFoundError, match="no model 'none'"):
        await repository(tmp_path, default="none").open()


async def test_load_swaps_and_drains_the_old_one(tmp_path):
    path = onnx_models.picture_classifier(tmp_path / "m.onnx", gain=1)
    models = repository(tmp_path)
    await models.open()
    old = models.get("m")
    batcher = old.batcher
    replace_file(onnx_models.picture_classifier, path, gain=2)
    await models.load("m")
    assert gain(models.get("m")) == 2
    assert gain(old) == 1  # a request that holds it is still answered, by the old one
    assert not batcher.drained.is_set()
    del old
    await asyncio.wait_for(batcher.drained.wait(), 60)


async def _refused(models, tmp_path, match):
    with pytest.raises(ModelError, match=match):
        await models.load("m")
    assert gain(models.get("m")) == 1
    state, reason = index(models)["m", "1"]
    assert state == "READY"
    assert "the old one is kept" in reason


async def test_a_corrupt_file_leaves_the_old_one_serving_and_says_so(tmp_path):
    path = onnx_models.picture_classifier(tmp_path / "m.onnx")
    models = repository(tmp_path)
    await models.open()
    path.write_bytes(path.read_bytes()[:100])
    await _refused(models, tmp_path, r"m\.onnx is not a model")


@pytest.mark.parametrize(
    ("build", "options", "match"),
    [
        (onnx_models.picture_classifier, {"size": 9}, "takes images UINT8"),
        (onnx_models.adder, {}, "takes a FP32"),
        (onnx_models.picture_classifier, {"card": False}, "has no card"),
    ],
)
async def test_an_incompatible_file_leaves_the_old_one_serving(tmp_path, build, options, match):
    path = onnx_models.picture_classifier(tmp_path / "m.onnx")
    models = repository(tmp_path)
    await models.open()
    replace_file(build, path, **options)
    await _refused(models, tmp_path, match)
    replace_file(onnx_models.picture_classifier, path, gain=3)
    await models.load("m")
    assert index(models)["m", "1"] == ("READY", "")


async def test_unload_and_load_again(tmp_path):
    onnx_models.adder(tmp_path / "m.onnx")
    models = repository(tmp_path)
    await models.open()
    await models.unload("m")
    with pytest.raises(ModelNotFoundError):
        models.get("m")
    assert index(models) == {("m", "1"): ("UNAVAILABLE", "unloaded")}
    with pytest.raises(ModelNotFoundError):
        await models.unload("m")
    await models.refresh()  # watching does not bring it back
    assert not models.all()
    await models.load("m")
    assert models.get("m").model.name == "m"
    with pytest.raises(ModelNotFoundError, match="no file for a model 'other'"):
        await models.load("other")


async def test_counters_go_on_over_a_swap(tmp_path):
    onnx_models.picture_classifier(tmp_path / "m.onnx")
    models = repository(tmp_path)
    await models.open()
    gain(models.get("m"))
    models.get("m").statistics.answered(5)
    await models.load("m")
    assert models.get("m").model.executions.by_rows()[1].count == 1
    assert models.get("m").statistics.success.count == 1


async def test_a_file_that_was_away_is_served_again(tmp_path):
    path = onnx_models.adder(tmp_path / "models/m.onnx")
    models = repository(tmp_path / "models")
    await models.open()
    path.rename(tmp_path / "m.onnx")
    await models.refresh()
    assert index(models) == {}
    (tmp_path / "m.onnx").rename(path)
    await models.refresh()
    assert index(models) == {("m", "1"): ("READY", "")}


@pytest.mark.parametrize("follow", ["load", "refresh"])
@pytest.mark.parametrize(
    ("before", "after"),
    [("m.onnx", "m/1/model.onnx"), ("m/02/model.onnx", "m/2/model.onnx")],
)
async def test_a_model_may_move_to_another_path_of_its_name(tmp_path, before, after, follow):
    path = onnx_models.picture_classifier(tmp_path / before)
    models = repository(tmp_path)
    await models.open()
    onnx_models.picture_classifier(tmp_path / after, gain=2)
    await models.refresh()
    (_, reason) = index(models)["m", after[2] if "2" in after else "1"]
    assert "rename one; the old one is kept" in reason
    path.unlink()
    await (models.load("m") if follow == "load" else models.refresh())
    assert gain(models.get("m")) == 2
    assert [reason for _, reason in index(models).values()] == [""]


async def test_a_tolerant_start_serves_the_good_files_and_tells_of_the_bad(tmp_path, caplog):
    onnx_models.adder(tmp_path / "good.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"half a file")
    models = repository(tmp_path, default="bad")
    await models.open(tolerant=True)
    assert [served.model.name for served in models.all()] == ["good"]
    state, reason = index(models)["bad", "1"]
    assert state == "UNAVAILABLE"
    assert "bad.onnx is not a model" in reason
    assert sum(record.levelname == "ERROR" for record in caplog.records) == 1
    with pytest.raises(ModelError, match=r"bad\.onnx is not a model"):
        await repository(tmp_path).open()


async def test_a_file_given_by_itself_that_failed_is_served_once_it_is_good(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"half a file")
    models = repository(path)
    await models.open(tolerant=True)
    onnx_models.picture_classifier(path, name="from-card")
    await models.refresh()
    assert index(models) == {("from-card", "1"): ("READY", "")}


async def test_the_index_forgets_what_is_no_longer_so(tmp_path):
    path = onnx_models.picture_classifier(tmp_path / "m.onnx")
    models = repository(tmp_path)
    await models.open()
    path.write_bytes(b"half a file")
    await models.refresh()
    assert "the old one is kept" in index(models)["m", "1"][1]
    await models.unload("m")
    assert index(models) == {("m", "1"): ("UNAVAILABLE", "unloaded")}
    with pytest.raises(ModelError, match=r"m\.onnx is not a model") as refusal:
        await models.load("m")
    assert "kept" not in str(refusal.value)
    assert "is not a model" in index(models)["m", "1"][1]
    path.unlink()
    assert index(models) == {}


async def test_a_folder_that_is_gone_leaves_an_index_of_what_is_served(tmp_path):
    onnx_models.adder(tmp_path / "models/m.onnx")
    models = repository(tmp_path / "models")
    await models.open()
    (tmp_path / "models").rename(tmp_path / "away")
    assert index(models) == {("m", "1"): ("READY", "")}


async def test_two_files_whose_cards_share_a_name_are_told_what_to_do(tmp_path):
    paths = [onnx_models.picture_classifier(tmp_path / f"{name}.onnx") for name in ("one", "two")]
    with pytest.raises(ModelError, match="named by its card: put the files into a folder"):
        await repository(*paths).open()
    both = repository(tmp_path)
    await both.open()
    assert [served.model.name for served in both.all()] == ["one", "two"]


async def test_the_index_says_when_a_newer_file_is_not_the_one_that_is_served(tmp_path):
    path = onnx_models.picture_classifier(tmp_path / "m.onnx")
    models = repository(tmp_path)
    await models.open()
    replace_file(onnx_models.picture_classifier, path, gain=2)
    assert index(models) == {("m", "1"): ("READY", "the file has changed since it was loaded")}
    await models.load("m")
    assert index(models) == {("m", "1"): ("READY", "")}
