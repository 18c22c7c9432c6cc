import pytest

from service.tracing import make_tracing, trace_id, tracing_with
from tests import web

from .onnx_models import picture_classifier
from .running import running
from .test_classify import picture

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (PARENT.encode(), "0af7651916cd43dd8448eb211c80319c"),
        (b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01", None),
        (b"00-0af7651916cd43dd8448eb211c80319c-" + b"0" * 16 + b"-01", None),
        (b"ff" + PARENT.encode()[2:], None),
        (b"01" + PARENT.encode()[2:], "0af7651916cd43dd8448eb211c80319c"),
        (b"nonsense", None),
        (b"", None),
    ],
)
def test_reads_the_callers_trace_id(value, expected):
    assert trace_id({b"traceparent": value}) == expected


def test_nothing_is_traced_unless_opentelemetry_is_told_where_to():
    assert make_tracing({}) is None


@pytest.mark.parametrize(
    ("variable", "value"), [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")]
)
def test_opentelemetrys_own_switches_hold(variable, value):
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    assert make_tracing({**endpoint, variable: value}) is None


def test_a_request_becomes_a_span_below_its_caller(tmp_path):
    export = pytest.importorskip("opentelemetry.sdk.trace.export")
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    trace = pytest.importorskip("opentelemetry.sdk.trace")
    spans = memory.InMemorySpanExporter()
    provider = trace.TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(spans))
    with running(picture_classifier(tmp_path / "tiny.onnx")) as server:
        server.state.tracing = tracing_with(provider)
        web.post(
            f"{server.url}/v1/classify", content=picture("red"), headers={"traceparent": PARENT}
        )
    (span,) = spans.get_finished_spans()
    assert span.name == "POST /v1/classify"
    assert f"{span.context.trace_id:032x}" == trace_id({b"traceparent": PARENT.encode()})
    assert f"{span.parent.span_id:016x}" == "b7ad6b7169203331"
    assert span.attributes["http.response.status_code"] == 200
    assert span.end_time > span.start_time
