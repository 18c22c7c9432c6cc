from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pytest

from flatfold.contract.errors import UsageError
from tests.training.cifar_files import write_cifar10
from tests.training.class_folders import paint
from training.data import DataError
from training.datasets import load_datasets
from training.folders import load_folders

if TYPE_CHECKING:
    from pathlib import Path


def test_names_come_from_the_folders_and_a_fifth_is_held_out(tmp_path: Path) -> None:
    paint(tmp_path, {"rose": 10, "blue sky": 20})
    train, test = load_folders(tmp_path, 16)
    assert train.names == test.names == ("blue sky", "rose")
    assert train.images.shape == (24, 16, 16, 3)
    assert np.bincount(train.labels).tolist() == [16, 8]
    assert np.bincount(test.labels).tolist() == [4, 2]
    for pictures in (train, test):
        assert (pictures.images[pictures.labels == 1, 8, 8, 0] == 255).all()
        assert (pictures.images[pictures.labels == 0, 8, 8, 2] == 255).all()


def test_the_same_pictures_are_held_out_each_time_and_none_twice(tmp_path: Path) -> None:
    paint(tmp_path, {"rose": 10, "blue sky": 20})
    train, test = load_folders(tmp_path, 8)
    again = load_folders(tmp_path, 8)[1]
    assert np.array_equal(test.images, again.images)
    roses = [set(p.images[p.labels == 1, 4, 4, 1].tolist()) for p in (train, test)]
    assert roses[0] | roses[1] == set(range(10))
    assert not roses[0] & roses[1]


def test_given_train_and_test_folders_are_kept(tmp_path: Path) -> None:
    paint(tmp_path / "train", {"rose": 3, "grass": 2})
    paint(tmp_path / "test", {"rose": 1, "grass": 1})
    train, test = load_folders(tmp_path, 8)
    assert (len(train), len(test)) == (5, 2)


def test_train_and_test_must_hold_the_same_classes(tmp_path: Path) -> None:
    paint(tmp_path / "train", {"rose": 2, "grass": 2})
    paint(tmp_path / "test", {"rose": 1, "blue sky": 1})
    with pytest.raises(DataError, match="same classes; odd: blue sky, grass"):
        load_folders(tmp_path, 8)


def test_hidden_files_are_no_pictures(tmp_path: Path) -> None:
    paint(tmp_path, {"rose": 2, "grass": 2})
    (tmp_path / "rose" / ".DS_Store").write_bytes(b"x")
    (tmp_path / ".cache").mkdir()
    assert sum(map(len, load_folders(tmp_path, 8))) == 4


def test_a_hidden_folder_in_a_class_holds_no_pictures(tmp_path: Path) -> None:
    data = tmp_path / ".data"  # a hidden folder further up hides nothing
    paint(data, {"rose": 2, "grass": 2})
    paint(data / "rose" / ".ipynb_checkpoints", {"grass": 2})
    paint(data / "rose" / "wild", {"rose": 1})
    assert sum(map(len, load_folders(data, 8))) == 5


@pytest.mark.parametrize("parts", [("train", "val"), ("Train", "Test"), ("train",)])
def test_a_split_by_other_names_is_not_taken_for_classes(
    tmp_path: Path, parts: tuple[str, ...]
) -> None:
    for part in parts:
        paint(tmp_path / part, {"rose": 2, "grass": 2})
    found = ", ".join(repr(part) for part in sorted(parts))
    with pytest.raises(DataError, match=f"both 'train' and 'test', in lower case.*found {found}$"):
        load_folders(tmp_path, 8)


def test_classes_may_have_the_names_of_parts(tmp_path: Path) -> None:
    for part in ("valid", "test"):
        paint(tmp_path, {"rose": 2})
        (tmp_path / "rose").rename(tmp_path / part)
    assert load_folders(tmp_path, 8)[0].names == ("test", "valid")


def test_a_link_to_nowhere_is_named(tmp_path: Path) -> None:
    paint(tmp_path, {"rose": 2, "grass": 2})
    (tmp_path / "rose" / "9.png").symlink_to(tmp_path / "moved.png")
    with pytest.raises(DataError, match=r"1 of 5 files.*rose/9\.png"):
        load_folders(tmp_path, 8)


@pytest.mark.parametrize("size", [10**7, 10**10])
def test_more_than_memory_holds_is_told_with_the_count_and_size(tmp_path: Path, size: int) -> None:
    paint(tmp_path, {"rose": 2, "grass": 2})
    with pytest.raises(DataError, match=f"4 pictures of {size}x{size} pixels need .* GB"):
        load_folders(tmp_path, size)


def test_an_unreadable_picture_is_named(tmp_path: Path) -> None:
    paint(tmp_path, {"rose": 2, "grass": 2})
    bad = tmp_path / "rose" / "torn.png"
    bad.write_bytes((tmp_path / "rose" / "0.png").read_bytes()[:60])
    with pytest.raises(DataError, match=r"1 of 5 files.*rose/torn\.png: the PNG picture"):
        load_folders(tmp_path, 8)


def test_many_unreadable_pictures_are_counted(tmp_path: Path) -> None:
    paint(tmp_path, {"rose": 2, "grass": 2})
    for number in range(7):
        (tmp_path / "rose" / f"{number}.txt").write_text("a note")
    with pytest.raises(DataError, match=r"7 of 11 files.*0\.txt.*and 2 more"):
        load_folders(tmp_path, 8)


def test_an_empty_class_is_named(tmp_path: Path) -> None:
    paint(tmp_path, {"rose": 2, "grass": 0})
    with pytest.raises(DataError, match="grass is empty"):
        load_folders(tmp_path, 8)


def test_one_class_is_not_enough(tmp_path: Path) -> None:
    paint(tmp_path, {"rose": 2})
    with pytest.raises(DataError, match=r"at least two class folders.*only 'rose'"):
        load_folders(tmp_path, 8)


def test_a_class_of_one_picture_cannot_be_split(tmp_path: Path) -> None:
    paint(tmp_path, {"rose": 2, "grass": 1})
    with pytest.raises(DataError, match="grass holds 1 picture"):
        load_folders(tmp_path, 8)


def test_data_dir_may_be_either(tmp_path: Path) -> None:
    cifar = write_cifar10(tmp_path / "cifar", written=1)
    train, test = load_datasets(cifar)
    assert (len(train), len(test)) == (50_000, 10_000)
    paint(tmp_path / "own", {"rose": 2, "grass": 2})
    assert load_datasets(tmp_path / "own")[0].images.shape[1:] == (32, 32, 3)
    assert load_datasets(tmp_path / "own", size=48)[0].images.shape[1:] == (48, 48, 3)


def test_wrong_sizes_and_places(tmp_path: Path) -> None:
    cifar = write_cifar10(tmp_path / "cifar", written=1)
    with pytest.raises(UsageError, match="CIFAR-10's pictures are 32x32 pixels, not 64x64"):
        load_datasets(cifar, size=64)
    with pytest.raises(UsageError, match="too small"):
        load_datasets(cifar, size=8)
    with pytest.raises(DataError, match="nowhere does not exist"):
        load_datasets(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="neither CIFAR-10"):
        load_datasets(tmp_path / "empty")


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read x+.*: File name too long"):
        load_datasets("x" * 300)
    folder = paint(tmp_path / "pictures", {"rose": 4, "grass": 4})
    locked = paint(folder / "rose" / "more", {"grass": 1}) / "grass"
    locked.chmod(0)
    try:
        if os.access(locked, os.R_OK):
            pytest.skip("this user reads every folder")
        with pytest.raises(DataError, match=f"cannot read {locked}: Permission denied"):
            load_datasets(folder)
    finally:
        locked.chmod(0o700)
