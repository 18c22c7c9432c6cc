import os

import pytest

from flatfold.contract import files
from flatfold.contract.errors import FlatfoldError
from flatfold.contract.files import atomic_path, check_replaceable, remove_leftovers


def test_replaces_the_target_whole(tmp_path):
    target = tmp_path / "model.onnx"
    target.write_bytes(b"old")
    with atomic_path(target) as temporary:
        temporary.write_bytes(b"new")
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "model.onnx"
    target.write_bytes(b"old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_names_a_folder_that_is_missing(tmp_path):
    target = tmp_path / "nowhere" / "model.onnx"
    with (
        pytest.raises(FlatfoldError, match=r"nowhere/model\.onnx: there is no folder"),
        atomic_path(target),
    ):
        pass


def test_what_is_no_file_is_left_in_its_place(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, words in (("folder", "it is a folder"), ("pipe", "no regular file")):
        with pytest.raises(FlatfoldError, match=words), atomic_path(tmp_path / name):
            pass
    assert (tmp_path / "folder").is_dir()
    assert (tmp_path / "pipe").is_fifo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "pipe"]


def test_the_link_to_standard_output_is_left_in_its_place(tmp_path, monkeypatch):
    (tmp_path / "stdout").symlink_to(tmp_path / "where the shell writes")
    (tmp_path / "where the shell writes").write_bytes(b"")
    monkeypatch.setattr(files, "DEVICES", tmp_path)  # replacing /dev/stdout would break the machine
    with pytest.raises(FlatfoldError, match="no regular file"):
        check_replaceable(tmp_path / "stdout")


def test_the_file_is_as_readable_as_any_other(tmp_path):
    plain, atomic = tmp_path / "plain", tmp_path / "atomic"
    plain.write_bytes(b"")
    with atomic_path(atomic) as temporary:
        temporary.write_bytes(b"")
    assert atomic.stat().st_mode == plain.stat().st_mode


def test_leftovers_of_a_killed_write_are_removed_and_nothing_else(tmp_path):
    target = tmp_path / "state.safetensors"
    others = [
        "state.safetensors",
        ".state.safetensors.swp",
        ".other.safetensors.abcd_123",
        ".stateXsafetensors.abcd_123",
        ".tmpdir",
    ]
    for name in others:
        (tmp_path / name).touch()
    (tmp_path / ".tmpFolder").mkdir()
    (tmp_path / ".tmpAbC123").touch()
    remove_leftovers(target)
    assert (tmp_path / ".tmpAbC123").exists(), "anybody's, with no write of ours cut short"
    (tmp_path / ".state.safetensors.abcd_123").touch()
    remove_leftovers(target)
    assert {path.name for path in tmp_path.iterdir()} == {*others, ".tmpFolder"}


def test_a_folder_that_is_missing_has_no_leftovers(tmp_path):
    remove_leftovers(tmp_path / "nowhere" / "state.safetensors")


def test_what_atomic_path_writes_to_is_what_is_removed(tmp_path):
    target = tmp_path / "log.jsonl"
    with pytest.raises(FlatfoldError), atomic_path(target):
        remove_leftovers(target)
        assert not list(tmp_path.iterdir())
