import sys

import numpy as np
import onnxruntime
import pytest

from service import runtime
from service.runtime import CHOICES, PROVIDERS, ProviderError, RuntimeOptions, open_session
from service.runtime import provider_candidates as candidates
from tests.service import onnx_models

ALL = list(PROVIDERS.values())


def test_auto_takes_the_fastest_that_starts_without_surprises():
    assert candidates("auto", ALL) == ("cuda", "openvino", "cpu")
    assert candidates("auto", ["AzureExecutionProvider", PROVIDERS["cpu"]]) == ("cpu",)


@pytest.mark.parametrize("choice", [name for name in CHOICES if name != "auto"])
def test_an_explicit_provider_is_the_only_candidate(choice):
    assert candidates(choice, ALL) == (choice,)


@pytest.mark.parametrize("choice", ["cuda", "tensorrt", "openvino"])
def test_a_missing_explicit_provider_says_what_is_there_and_what_to_do(choice):
    with pytest.raises(ProviderError, match=f"--provider {choice} needs .*has CPU.*; pip unins"):
        candidates(choice, ["CPUExecutionProvider"])


def test_an_unknown_provider_lists_the_choices():
    with pytest.raises(ProviderError, match="must be one of auto, cpu"):
        candidates("gpu", ALL)


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(),
    reason="this onnxruntime has the CUDA provider",
)
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_does_not_start_is_never_replaced_in_silence(tmp_path, monkeypatch):
    # onnxruntime says that it has CUDA, then falls back: what a machine without a driver does.
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ALL)
    path = onnx_models.adder(tmp_path / "m.onnx")
    with pytest.raises(ProviderError, match="cuda did not start"):
        open_session(path, RuntimeOptions(provider="cuda"))
    assert open_session(path, RuntimeOptions(provider="auto")).provider in ("cpu", "openvino")


def test_cuda_is_looked_for_where_pip_puts_it_and_quietly(tmp_path, monkeypatch, capsys):
    # The real search finds nothing on a machine without a GPU; what it prints is no answer's line.
    path = onnx_models.adder(tmp_path / "m.onnx")
    calls = []

    def preload():
        calls.append("loaded")
        sys.stdout.write("Failed to load libcublasLt.so.13")

    runtime._load_cuda.cache_clear()
    monkeypatch.setattr(onnxruntime, "preload_dlls", preload)
    open_session(path, RuntimeOptions(provider="cpu"))
    assert calls == []
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ALL)
    for _ in range(2):
        open_session(path, RuntimeOptions(provider="auto"))
    assert calls == ["loaded"]
    assert capsys.readouterr().out == ""
    runtime._load_cuda.cache_clear()


@pytest.mark.skipif(
    PROVIDERS["openvino"] not in onnxruntime.get_available_providers(),
    reason="this onnxruntime has no OpenVINO provider",
)
def test_openvino_answers_as_the_cpu_does(tmp_path):
    path = onnx_models.adder(tmp_path / "m.onnx")
    answers = []
    for provider in ("cpu", "openvino"):
        opened = open_session(path, RuntimeOptions(provider=provider, intra_op_threads=1))
        assert opened.provider == provider
        feed = {i.name: np.ones((3, *i.shape[1:]), np.float32) for i in opened.session.get_inputs()}
        answers.append(opened.session.run(None, feed)[0])
    np.testing.assert_allclose(answers[0], answers[1], rtol=1e-5)


def test_a_precision_that_what_runs_does_not_have_is_refused(tmp_path):
    path = onnx_models.adder(tmp_path / "m.onnx")
    with pytest.raises(ProviderError, match=r"fp16 needs --provider tensorrt; cpu"):
        open_session(path, RuntimeOptions(provider="cpu", half_precision=True))


def test_auto_goes_on_where_a_provider_throws(tmp_path, monkeypatch):
    path = onnx_models.adder(tmp_path / "m.onnx")
    real = onnxruntime.InferenceSession

    def open_or_fail(path, options, providers):
        if providers != ["CPUExecutionProvider"]:
            raise RuntimeError("no driver")
        return real(path, options, providers=providers)

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ALL)
    monkeypatch.setattr(onnxruntime, "InferenceSession", open_or_fail)
    assert open_session(path, RuntimeOptions()).provider == "cpu"
    with pytest.raises(RuntimeError, match="no driver"):
        open_session(path, RuntimeOptions(provider="cuda"))
