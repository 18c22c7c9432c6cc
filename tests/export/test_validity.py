"""Models that break ONNX's rules are said to, and a bug of our own is not blamed on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from export import fold
from export.validity import InvalidModelError, blaming
from flatfold.cli import main
from tests.export.sketch import Sketch

if TYPE_CHECKING:
    import onnx


def _model() -> onnx.ModelProto:
    s = Sketch()
    s.output(s.batch_norm(s.conv(s.input("N", 3, 8, 8), 3, 4), 4))
    return s.model()


def _torn(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[0] = 9


def _short(model: onnx.ModelProto) -> None:
    gamma = model.graph.initializer[1]
    gamma.dims[0] = 3
    gamma.raw_data = gamma.raw_data[:12]


def _twice(model: onnx.ModelProto) -> None:
    model.graph.node[1].output[0] = model.graph.node[0].output[0]


@pytest.mark.parametrize(
    ("damage", "words"),
    [(_torn, "too small for the declared shape"), (_short, "mismatch"), (_twice, "single static")],
)
def test_a_broken_model_is_named_with_its_fault(damage, words, tmp_path, capsys):
    model = _model()
    damage(model)
    with pytest.raises(InvalidModelError, match=rf"not a valid ONNX model: .*{words}"):
        fold(model)
    path, output = tmp_path / "m.onnx", tmp_path / "out.onnx"
    path.write_bytes(model.SerializeToString())
    assert main(["fold", str(path), "-o", str(output)]) == 1
    assert f"{path} is not a valid ONNX model" in capsys.readouterr().err
    assert not output.exists()


def test_what_fails_on_a_sound_model_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError), blaming(_model()):
        1 / 0  # noqa: B018 - the bug
