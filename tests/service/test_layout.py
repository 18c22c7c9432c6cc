import pytest

from service.layout import find
from service.model import ModelError


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def names(*roots):
    return [(source.name, source.version) for source in find(roots)]


def test_files_folders_and_versions(tmp_path):
    single = touch(tmp_path / "single.onnx")
    folder = tmp_path / "models"
    for name in ("b.onnx", "a/10/model.onnx", "a/9/model.onnx"):
        touch(folder / name)
    assert names(single, folder) == [(None, "1"), ("a", "9"), ("a", "10"), ("b", "1")]
    assert names(folder / "a") == [("a", "9"), ("a", "10")]


@pytest.mark.parametrize(
    "name",
    [".a.onnx.x1", ".hidden/1/model.onnx", "a/one/model.onnx", "a/1/other.onnx", "notes.txt"],
)
def test_what_is_no_model_is_passed_over(tmp_path, name):
    touch(tmp_path / name)
    assert names(tmp_path) == []


def test_a_file_need_not_exist_but_a_folder_must(tmp_path):
    assert names(tmp_path / "later.onnx") == [(None, "1")]
    with pytest.raises(ModelError, match="neither an"):
        find([tmp_path / "none"])


def test_the_stamp_changes_with_the_file(tmp_path):
    path = touch(tmp_path / "m.onnx")
    (source,) = find([path])
    before = source.stamp()
    path.write_bytes(b"more")
    assert source.stamp() != before
    path.unlink()
    assert source.stamp() is None
