import os
from pathlib import Path

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


def test_a_name_that_cannot_be_sent_is_left_out_with_a_warning(tmp_path, caplog):
    for name in (b"\xff.onnx", b"\xff/1/model.onnx", b"\xff.txt"):
        touch(tmp_path / os.fsdecode(name))
    touch(tmp_path / "ü.onnx")
    assert names(tmp_path) == [("ü", "1")]
    told = [record.getMessage() for record in caplog.records]
    assert [text.removeprefix(f"{tmp_path}/") for text in told] == [
        rf"\udcff{kind} cannot be read and is left out: its name is not UTF-8"
        for kind in ("", ".onnx")
    ]


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
    before = source.stamp()
    path.chmod(0o600)  # a file that could not be read may now be
    assert source.stamp() != before
    path.unlink()
    assert source.stamp() is None


def test_the_surroundings_change_with_what_lies_beside_the_file(tmp_path):
    (source,) = find([touch(tmp_path / "m.onnx")])
    before = source.surroundings()
    weights = touch(tmp_path / "m.data")
    with_weights = source.surroundings()
    assert with_weights != before
    weights.write_bytes(b"more")
    assert source.surroundings() != with_weights
    weights.unlink()
    assert source.surroundings() == before


def unreadable(path):
    """An entry at which even root gets an error: a link to a name that no file system allows."""
    path.symlink_to("x" * 300)


def test_what_cannot_be_read_in_a_folder_is_left_out_with_one_warning(tmp_path, caplog):
    touch(tmp_path / "good.onnx")
    touch(tmp_path / "v/2/model.onnx")
    unreadable(tmp_path / "lost+found")
    unreadable(tmp_path / "v/1")
    for _ in range(2):
        assert names(tmp_path) == [("good", "1"), ("v", "2")]
    told = [record.getMessage() for record in caplog.records]
    assert [text.split()[0] for text in told] == [f"{tmp_path}/lost+found", f"{tmp_path}/v/1"]


def test_a_file_given_by_itself_that_cannot_be_looked_at_is_a_clear_error(tmp_path):
    unreadable(tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=r"m\.onnx is neither .* that can be read: File name too"):
        find([tmp_path / "m.onnx"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_without_the_right_to_read_is_left_out(tmp_path):
    touch(tmp_path / "good.onnx")
    (tmp_path / "lost+found").mkdir(mode=0)
    assert names(tmp_path) == [("good", "1")]


def test_the_working_folder_has_a_name(tmp_path, monkeypatch):
    touch(tmp_path / "m/1/model.onnx")
    (tmp_path / "m/sub").mkdir()
    monkeypatch.chdir(tmp_path / "m")
    assert names(Path()) == [("m", "1")]
    monkeypatch.chdir("sub")
    assert names(Path("..")) == [("m", "1")]
    (tmp_path / "link").symlink_to(tmp_path / "m")
    assert names(tmp_path / "link") == [("link", "1")]
