from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from flatfold.contract.errors import FlatfoldError
from training.progress import CURVES, Bar, JsonLines, Lines, Several, TensorBoard, build_observer

if TYPE_CHECKING:
    from pathlib import Path


def record(epoch: int, epochs: int = 4) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "epochs": epochs,
        "seconds": 30.0,
        "images_per_second": 1500.0,
        "train_loss": 1.25,
        "train_accuracy": 0.5,
        "holdout_loss": 1.1,
        "holdout_accuracy": 0.625,
    }


def test_a_line_tells_the_figures_and_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines([1] * 4)
    lines.epoch(record(1))
    lines.epoch(record(2))
    assert capsys.readouterr().out.splitlines()[1] == (
        "epoch 2/4  loss 1.2500  accuracy 50.00%  held out 62.50%  1,500 images/s  left 0:01:00"
    )


def test_the_time_left_counts_larger_pictures_for_more(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines([9, 9, 16, 16])
    lines.epoch(record(2))  # of a resumed run
    assert "left 0:01:47" in capsys.readouterr().out  # 30 s * 32 / 9
    lines.epoch(record(3) | {"seconds": 70.0})
    assert "left 0:01:04" in capsys.readouterr().out  # 100 s * 16 / 25


def test_the_bar_moves_less_for_smaller_pictures(capsys: pytest.CaptureFixture[str]) -> None:
    bar = Bar([4, 4, 16], steps_per_epoch=2, batch_size=100, done=1)
    for epoch in (1, 2):
        for step in (0, 1):
            bar.batch(epoch, step, 1.0, 0.5)
        bar.epoch(record(epoch + 1, epochs=3))
    shown = capsys.readouterr().err.split("\r")
    assert any("50.0/300" in part for part in shown)
    assert "300/300" in shown[-1]


def test_the_bar_shows_the_running_accuracy_of_the_epoch(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bar = Bar([1] * 4, steps_per_epoch=2, batch_size=100, done=3)
    bar.batch(3, 0, 1.0, 0.2)
    bar.batch(3, 1, 0.5, 0.4)
    bar.epoch(record(4))
    shown = capsys.readouterr()
    assert "epoch 4/4" in shown.out
    last = shown.err.split("\r")[-1]
    assert "epoch 4 loss 0.500 accuracy 30.0%" in last
    assert "800/800" in last


def test_the_running_accuracy_starts_anew_each_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    bar = Bar([1] * 2, steps_per_epoch=1, batch_size=100, done=0)
    bar.batch(0, 0, 1.0, 0.2)
    bar.batch(1, 0, 1.0, 0.8)
    bar.epoch(record(2, epochs=2))
    assert "accuracy 80.0%" in capsys.readouterr().err


def test_json_lines_are_whole_after_each_epoch(tmp_path: Path) -> None:
    log = JsonLines(tmp_path / "log.jsonl", [])
    for epoch in (1, 2):
        log.epoch(record(epoch))
        written = [json.loads(line) for line in (tmp_path / "log.jsonl").open()]
        assert written == [record(number) for number in range(1, epoch + 1)]


def test_a_resumed_run_writes_the_log_that_its_history_tells(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps(record(1)) + '\n{"epoch": 2, "epo')  # killed while it wrote
    log = JsonLines(path, [record(1), record(2)])
    log.epoch(record(3))
    assert [json.loads(line)["epoch"] for line in path.open()] == [1, 2, 3]


def test_several_pass_everything_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = Several([Lines([1] * 4), JsonLines(tmp_path / "log.jsonl", [])])
    both.batch(0, 0, 1.0, 0.5)
    both.epoch(record(1))
    assert "epoch 1/4" in capsys.readouterr().out
    assert (tmp_path / "log.jsonl").read_text().count("\n") == 1


def test_tensorboard_gets_each_curve(tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    TensorBoard(tmp_path, 0).epoch(record(1))
    TensorBoard(tmp_path, 1).epoch(record(2))
    read = events.EventAccumulator(str(tmp_path)).Reload()
    assert len(read.Tags()["scalars"]) == len(CURVES)
    points = [(event.step, event.value) for event in read.Scalars("holdout/accuracy")]
    assert points == [(1, 0.625), (2, 0.625)]


def test_a_file_where_tensorboard_needs_a_folder_is_named(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    (tmp_path / "tensorboard").touch()
    with pytest.raises(FlatfoldError, match=r"cannot write .*tensorboard: (File exists|Not a dir)"):
        build_observer(tmp_path, history=[], work=[1], steps_per_epoch=2, batch_size=100)


def test_curves_that_fail_later_are_warned_of_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard")
    folder = tmp_path / "tensorboard"
    board = TensorBoard(folder, 0)
    board._writer.close()  # it opens its file anew for the next point
    shutil.rmtree(folder)
    folder.touch()
    board.epoch(record(1))
    board.epoch(record(2))
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith(f"flatfold: warning: cannot write {folder}: File exists; going on")


def test_a_log_is_json_or_nothing(tmp_path: Path) -> None:
    log = JsonLines(tmp_path / "log.jsonl", [])
    with pytest.raises(ValueError, match="not JSON compliant"):
        log.epoch(record(1) | {"holdout_loss": float("nan")})
    assert (tmp_path / "log.jsonl").read_text() == ""


def test_without_a_terminal_there_are_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    observer = build_observer(tmp_path, history=[], work=[1] * 4, steps_per_epoch=2, batch_size=100)
    observer.batch(0, 0, 1.0, 0.5)
    observer.epoch(record(1))
    shown = capsys.readouterr()
    assert shown.out.startswith("epoch 1/4")
    assert shown.err == ""
    assert (tmp_path / "log.jsonl").read_text().count("\n") == 1
