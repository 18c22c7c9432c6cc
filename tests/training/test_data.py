from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.training.cifar_files import NAMES, write_cifar10
from training.data import (
    FOLDER,
    RECORD_BYTES,
    RECORDS,
    DataError,
    find_cifar10,
    load_cifar10,
    read_batch,
)

BESIDE_THE_CHECKOUT = Path(__file__).parents[3] / "shared" / FOLDER


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_cifar10(tmp_path / FOLDER)


def test_pixels_labels_and_names_are_where_the_layout_says(folder: Path) -> None:
    third = np.fromfile(folder / "data_batch_2.bin", np.uint8)[2 * RECORD_BYTES :]

    pictures = load_cifar10(folder, train=True)

    assert pictures.images.shape == (50_000, 32, 32, 3)
    assert pictures.images.dtype == np.uint8
    assert pictures.labels.dtype == np.int64
    assert pictures.names == NAMES
    assert len(pictures) == 50_000
    row, column = 5, 17
    pixel = pictures.images[RECORDS + 2, row, column]
    offsets = [1 + 1024 * channel + 32 * row + column for channel in range(3)]
    assert pixel.tolist() == third[offsets].tolist()
    assert pictures.labels[RECORDS + 2] == third[0]


def test_test_pictures_come_from_the_test_file(folder: Path) -> None:
    assert len(load_cifar10(folder, train=False)) == 10_000


def test_the_folder_or_the_one_that_holds_it(folder: Path) -> None:
    assert find_cifar10(folder) == folder
    assert find_cifar10(folder.parent) == folder


def test_environment_comes_before_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = write_cifar10(tmp_path / "cache" / "flatfold" / FOLDER, written=0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("FLATFOLD_DATA_DIR", raising=False)
    assert find_cifar10() == cached

    named = write_cifar10(tmp_path / "named" / FOLDER, written=0)
    monkeypatch.setenv("FLATFOLD_DATA_DIR", str(tmp_path / "named"))
    assert find_cifar10() == named


def test_a_given_folder_is_the_only_place_looked_at(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLATFOLD_DATA_DIR", str(folder))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match=f"no CIFAR-10 in {empty}.*--data-dir"):
        load_cifar10(empty, train=True)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(DataError, match=r"data_batch_3\.bin: No such file"):
        load_cifar10(folder, train=True)


@pytest.mark.parametrize(
    ("size", "state"),
    [(0, "truncated"), (30_729_999, "truncated"), (30_730_001, "not a CIFAR-10 file")],
)
def test_a_file_of_the_wrong_size_is_named(folder: Path, size: int, state: str) -> None:
    with (folder / "test_batch.bin").open("r+b") as file:
        file.truncate(size)
    with pytest.raises(DataError, match=rf"test_batch\.bin is {state}: {size} bytes"):
        load_cifar10(folder, train=False)


def test_a_label_above_nine_tells_the_record(folder: Path) -> None:
    with (folder / "test_batch.bin").open("r+b") as file:
        file.seek(7 * RECORD_BYTES)
        file.write(b"\x0a")
    with pytest.raises(DataError, match="record 7 has label 10"):
        read_batch(folder / "test_batch.bin")


@pytest.mark.parametrize("content", [b"", b"cat\n" * 10, b"a b c d e f g h i\n", b"\xff\xfe\x00"])
def test_wrong_class_names_name_the_file(folder: Path, content: bytes) -> None:
    (folder / "batches.meta.txt").write_bytes(content)
    with pytest.raises(DataError, match=r"batches\.meta\.txt"):
        load_cifar10(folder, train=False)


@pytest.mark.cifar
def test_the_real_files_hold_each_class_equally_often() -> None:
    found = find_cifar10() or find_cifar10(BESIDE_THE_CHECKOUT)
    if found is None:
        pytest.skip("no CIFAR-10 in $FLATFOLD_DATA_DIR or beside the checkout")
    for train, each in ((True, 5_000), (False, 1_000)):
        pictures = load_cifar10(found, train=train)
        assert np.bincount(pictures.labels).tolist() == [each] * 10
        # The mean pixel of CIFAR-10's training pictures is 0.491, 0.482, 0.447.
        mean = pictures.images.mean((0, 1, 2)) / 255
        assert mean == pytest.approx([0.491, 0.482, 0.447], abs=0.005)
