from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from flatfold.cli import build_parser, main
from tests.training.class_folders import paint
from training import checkpoint

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    paint(tmp_path / "my flowers", {"rose": 20, "grass": 20})
    settings = "train --preset fast --image-size 9 --epochs 1 --threads 1 --precision fp32"
    places = ["--data-dir", str(tmp_path / "my flowers"), "--output", str(tmp_path / "run")]
    return [*settings.split(), *places]


def test_class_folders_end_in_a_checkpoint_with_their_labels(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 0
    run = tmp_path / "run"
    written = {path.name for path in run.iterdir()} - {"tensorboard"}
    assert written == {"model.safetensors", "state.safetensors", "log.jsonl", "report.png"}
    card = checkpoint.load(run / "model.safetensors").card
    assert card.name == "my-flowers"
    assert card.labels == ("grass", "rose")
    assert (card.height, card.width) == (9, 9)
    assert card.accuracy["test_images"] == 8
    recorded = card.provenance["command"]
    assert build_parser("train").parse_args(recorded.split()[1:]).epochs == 1
    assert str(tmp_path) not in json.dumps(card.provenance), "no paths of this machine"

    capsys.readouterr()
    model, data = str(run / "model.safetensors"), str(tmp_path / "my flowers")
    assert main(["evaluate", model, "--data-dir", data, "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert round(measured["accuracy"], 6) == card.accuracy["test_top1"]
    assert round(measured["accuracy_tta"], 6) == card.accuracy["test_top1_tta"]
    assert measured["ece"] == pytest.approx(card.accuracy["test_ece"], abs=1e-4)


def test_an_unfinished_run_is_not_overwritten(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 0
    assert main(arguments) == 0, "a finished run may be done again"
    state = tmp_path / "run" / "state.safetensors"
    _pretend_unfinished(state)
    before = state.read_bytes()
    capsys.readouterr()
    assert main(arguments) == 2
    message = "holds an unfinished run, 1 of 2 epochs done: go on with --resume"
    assert message in capsys.readouterr().err
    assert state.read_bytes() == before


@pytest.mark.parametrize("model", ["missing", "of an earlier run"])
def test_a_run_without_its_model_is_not_overwritten(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], model: str
) -> None:
    assert main(arguments) == 0
    state, written = tmp_path / "run" / "state.safetensors", tmp_path / "run" / "model.safetensors"
    bits = written.read_bytes()
    if model == "missing":
        written.unlink()
    else:
        os.utime(written, ns=(0, state.stat().st_mtime_ns - 1))
    assert main(arguments) == 2
    message = "an unfinished run, 1 of 1 epochs done but no model.safetensors written since: go on"
    assert message in capsys.readouterr().err
    assert main([*arguments, "--resume"]) == 0
    assert written.read_bytes() == bits
    assert main(arguments) == 0, "a finished run may be done again"


def test_a_start_that_fails_leaves_no_folder(arguments: list[str], tmp_path: Path) -> None:
    for wrong in (["--data-dir", "nowhere"], ["--batch-size", "999"]):
        assert main([*arguments, *wrong]) == 1
        assert not (tmp_path / "run").exists()


def test_a_folder_whose_name_is_not_utf8_is_refused_before_training(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--output", str(tmp_path / "caf\udce9")]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "caf\\udce9: --output must be UTF-8" in said.err


def test_a_run_begun_anew_is_not_resumed_as_the_one_before(
    arguments: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert main(arguments) == 0
    model = (tmp_path / "run" / "model.safetensors").read_bytes()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    other = [*arguments, "--seed", "7"]
    with monkeypatch.context() as broken_off:
        broken_off.setattr("training.loop.Trainer.run", killed)
        assert main(other) == 130
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == model
    capsys.readouterr()
    assert main([*other, "--resume"]) == 0
    assert "starting anew" in capsys.readouterr().out


@pytest.mark.parametrize("output", [".", "runs/latest", "grass/run"])
def test_a_run_among_the_pictures_is_refused(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], output: str
) -> None:
    pictures = tmp_path / "my flowers"
    assert main([*arguments, "--output", str(pictures / output)]) == 2
    assert f"is in {pictures}, where each folder is a class" in capsys.readouterr().err
    assert {path.name for path in pictures.iterdir()} == {"rose", "grass"}


@pytest.mark.parametrize("output", ["pictures/runs", "pictures/train/.runs"])
def test_a_run_beside_the_parts_or_hidden_can_be_resumed(
    arguments: list[str], tmp_path: Path, output: str
) -> None:
    for part in ("train", "test"):
        paint(tmp_path / "pictures" / part, {"rose": 20, "grass": 20})
    there = ["--data-dir", str(tmp_path / "pictures"), "--output", str(tmp_path / output)]
    assert main([*arguments, *there]) == 0
    assert main([*arguments, *there, "--resume"]) == 0


def test_a_test_picture_learnt_from_is_warned_of(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 0
    assert capsys.readouterr().err == ""
    for part in ("train", "test"):
        paint(tmp_path / "split" / part, {"rose": 20, "grass": 20})
    assert main([*arguments, "--data-dir", str(tmp_path / "split")]) == 0
    assert capsys.readouterr().err.startswith(
        "flatfold: warning: 40 of 40 test pictures are training pictures too"
    )


def test_resuming_from_nothing_is_said(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = f"no state in {tmp_path / 'run'}: starting anew\n"
    assert main([*arguments, "--resume"]) == 0
    assert capsys.readouterr().out.count(said) == 1
    assert main([*arguments, "--resume"]) == 0
    assert main(arguments) == 0
    assert "starting anew" not in capsys.readouterr().out


def test_what_a_killed_run_left_half_written_is_removed(
    arguments: list[str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    names = ("state.safetensors", "model.safetensors", "report.png", "log.jsonl")
    for name in (*(f".{name}.ab_c1234" for name in names), ".tmpAbC123", ".notes.ab_c1234"):
        (run / name).touch()
    assert main(arguments) == 0
    assert {path.name for path in run.iterdir()} - {"tensorboard"} == {*names, ".notes.ab_c1234"}


@pytest.mark.parametrize(
    ("folder", "name"),
    [("фото", "pictures"), ("фото 2", "2"), ("my flowers (new)", "my-flowers-new")],
)
def test_a_model_is_called_by_the_latin_letters_of_its_folder(
    arguments: list[str], tmp_path: Path, folder: str, name: str
) -> None:
    (tmp_path / "my flowers").rename(tmp_path / folder)
    assert main([*arguments, "--data-dir", str(tmp_path / folder)]) == 0
    assert checkpoint.load(tmp_path / "run" / "model.safetensors").card.name == name


def _pretend_unfinished(path: Path) -> None:
    """Rewrite a finished state's recipe to one with an epoch to go."""
    tensors, metadata = checkpoint.read_tensors(path)
    progress = json.loads(metadata["progress"])
    progress["recipe"]["epochs"] += 1
    checkpoint.write_tensors(path, tensors, {**metadata, "progress": json.dumps(progress)})


@pytest.mark.parametrize(
    ("wrong", "message", "code"),
    [
        (["--preset", "turbo"], "unknown preset 'turbo'; expected one of fast, standard, best", 2),
        (["--epochs", "0"], "--epochs must be at least 1, got 0", 2),
        (["--batch-size", "-3"], "--batch-size must be at least 1, got -3", 2),
        (["--batch-size", "999"], "do not fill one batch of 999", 1),
        (["--image-size", "4"], "--image-size 4 is too small", 2),
        (["--threads", "0"], "--threads must be at least 1, got 0", 2),
        (["--threads", "99999999999"], "--threads must be at most 1024, got 99999999999", 2),
        (["--epochs", "99999999999"], "--epochs must be at most 1000000, got 99999999999", 2),
        (["--batch-size", "99999999999"], "do not fill one batch of 99999999999", 1),
        (["--image-size", "99999999999"], "which cannot be had; use fewer pictures or a", 1),
        (["--seed", "-1"], "--seed must be at least 0, got -1", 2),
        (["--seed", str(2**63)], "--seed must be at most 4294967295, got 9223372036854775808", 2),
        (["--device", "abacus"], "--device 'abacus' is unknown", 2),
        (["--device", "meta"], "--device 'meta' is unknown", 2),
        (["--data-dir", "nowhere"], "nowhere does not exist", 1),
    ],
)
def test_wrong_settings_are_one_clear_line(
    arguments: list[str],
    wrong: list[str],
    message: str,
    code: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*arguments, *wrong]) == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("flatfold: error: ")
    assert message in lines[0]
