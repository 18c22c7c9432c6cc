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
