from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

from tests.training.class_folders import paint
from tests.training.small import numbered_pictures
from training.copies import tell_copies
from training.folders import load_folders

if TYPE_CHECKING:
    from pathlib import Path


def test_a_test_picture_that_was_learnt_from_is_told(tmp_path: Path) -> None:
    paint(tmp_path / "train", {"rose": 4, "grass": 4})
    paint(tmp_path / "test", {"rose": 1, "grass": 1})
    copy, original = tmp_path / "test/grass/copy.bmp", tmp_path / "train/rose/3.png"
    Image.open(original).save(copy)  # in another format, and as another class
    (told,) = tell_copies(*load_folders(tmp_path, 8))
    test, train = tmp_path / "test/grass/0.png", tmp_path / "train/grass/0.png"
    assert told.startswith("3 of 3 test pictures are training pictures too, pixel for pixel: ")
    assert told.endswith(
        f": {test} is {train}; the test accuracy may be too high: keep one of each"
    )
    (tmp_path / "train/rose/3.png").unlink()
    (tmp_path / "train/rose/0.png").unlink()
    (tmp_path / "train/grass/0.png").unlink()
    assert tell_copies(*load_folders(tmp_path, 8)) == []


def test_training_pictures_that_repeat_others_are_told(tmp_path: Path) -> None:
    paint(tmp_path / "train", {"rose": 4, "grass": 4})
    paint(tmp_path / "test", {"blue sky": 1, "grass": 1})
    (tmp_path / "test/blue sky").rename(tmp_path / "test/rose")
    (tmp_path / "test/grass/0.png").rename(tmp_path / "train/rose/9.png")
    Image.new("RGB", (40, 30), "white").save(tmp_path / "test/grass/1.png")
    (told,) = tell_copies(*load_folders(tmp_path, 8))
    rose, grass = tmp_path / "train/rose/9.png", tmp_path / "train/grass/0.png"
    assert told.startswith(f"1 of 9 training pictures repeat another, pixel for pixel: {rose} is")
    assert f"is {grass}; the held-out accuracy and" in told


def test_of_a_class_folder_the_parts_keep_their_files(tmp_path: Path) -> None:
    paint(tmp_path, {"rose": 10, "grass": 10})
    train, test = load_folders(tmp_path, 8)
    for pictures in (train, test):
        assert [file.parent.name for file in pictures.files] == [
            pictures.names[label] for label in pictures.labels
        ]
        assert [int(file.stem) for file in pictures.files] == pictures.images[:, 4, 4, 1].tolist()


def test_pictures_without_files_are_not_looked_at() -> None:
    pictures = numbered_pictures(300, size=4)
    assert tell_copies(pictures, pictures) == []
