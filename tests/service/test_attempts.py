from service.attempts import Attempts
from service.layout import Source


def attempted(path, problem=""):
    """A file, and what is remembered of an attempt at it."""
    path.write_bytes(b"model")
    source, attempts = Source(path, path.stem, "1"), Attempts()
    attempts.begin(source)
    if problem:
        attempts.fail(source, problem)
    return source, attempts


def test_a_file_is_due_once_and_when_it_changes(tmp_path):
    source, attempts = attempted(tmp_path / "m.onnx")
    assert Attempts().is_due(source)
    assert not attempts.is_due(source)
    (tmp_path / "weights").touch()
    assert not attempts.is_due(source)
    source.path.write_bytes(b"another")
    assert attempts.is_due(source)


def test_a_file_that_failed_is_due_when_anything_beside_it_changes(tmp_path):
    source, attempts = attempted(tmp_path / "m.onnx", "broken")
    assert attempts.problem(source) == "broken"
    assert not attempts.is_due(source)
    (tmp_path / "weights").touch()
    assert attempts.is_due(source)
    attempts.begin(source)
    assert attempts.problem(source) == ""


def test_what_is_gone_is_forgotten_and_gives_those_that_failed_another_chance(tmp_path):
    source, attempts = attempted(tmp_path / "m.onnx", "both are m")
    other = Source(tmp_path / "other.onnx", "other", "1")
    attempts.begin(other)
    attempts.forget_all_but({source.path, other.path})
    assert not attempts.is_due(source)
    attempts.forget_all_but({source.path})
    assert attempts.is_due(other)
    assert attempts.is_due(source)
