import signal
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from service.tracing import make_tracing, resource, trace_id, tracing_with
from tests import web

from .onnx_models import picture_classifier
from .processes import Process
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


@contextmanager
def traced(folder, spans):
    """Serve; the finished spans are in `spans` once the server has stopped."""
    export = pytest.importorskip("opentelemetry.sdk.trace.export")
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    trace = pytest.importorskip("opentelemetry.sdk.trace")
    exporter = memory.InMemorySpanExporter()
    provider = trace.TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(exporter))
    with running(picture_classifier(folder / "tiny.onnx")) as server:
        server.state.tracing = tracing_with(provider)
        yield server
    spans.extend(exporter.get_finished_spans())


def test_a_request_becomes_a_span_below_its_caller(tmp_path):
    sent = {"content": picture("red"), "headers": {"traceparent": PARENT}}
    with traced(tmp_path, spans := []) as server:
        web.post(f"{server.url}/v1/classify", **sent)
    (span,) = spans
    assert span.name == "POST /v1/classify"
    assert f"{span.context.trace_id:032x}" == trace_id({b"traceparent": PARENT.encode()})
    assert f"{span.parent.span_id:016x}" == "b7ad6b7169203331"
    assert span.attributes["http.response.status_code"] == 200
    assert span.end_time > span.start_time
    assert span.status.is_unset


def test_a_failure_of_the_server_is_an_error_and_a_clients_mistake_is_none(tmp_path):
    with traced(tmp_path, spans := []) as server:
        web.post(f"{server.url}/v1/classify", content=b"no picture")
        server.state.draining = True
        web.get(f"{server.url}/v2/health/ready")
    by_status = {span.attributes["http.response.status_code"]: span for span in spans}
    assert by_status[422].status.is_unset
    assert by_status[503].attributes["error.type"] == "503"
    assert by_status[503].status.status_code.name == "ERROR"


def test_what_has_no_route_is_named_by_its_method_alone(tmp_path):
    with traced(tmp_path, spans := []) as server:
        web.get(f"{server.url}/any%0Athing")
    (span,) = spans
    assert span.name == "GET"
    assert span.attributes["url.path"] == "/any%0Athing"
    assert "http.route" not in span.attributes


@pytest.mark.parametrize(
    ("variable", "value", "name"),
    [
        ("OTEL_SERVICE_NAME", "", "flatfold"),
        ("OTEL_SERVICE_NAME", "mine", "mine"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=mine", "mine"),
    ],
)
def test_the_service_is_named_flatfold_unless_named_otherwise(monkeypatch, variable, value, name):
    pytest.importorskip("opentelemetry.sdk.resources")
    monkeypatch.setenv(variable, value)
    assert resource().attributes["service.name"] == name


@pytest.mark.parametrize("workers", [1, 2])
def test_the_last_spans_leave_before_the_process_does(tmp_path, workers):
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    sent = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            sent.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        told = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
            "OTEL_BSP_SCHEDULE_DELAY": "600000",  # milliseconds: none leaves while it serves
        }
        model = picture_classifier(tmp_path / "tiny.onnx")
        with Process(model, "--workers", workers, **told) as server:
            web.get(f"http://127.0.0.1:{server.port}/v2")
            server.process.send_signal(signal.SIGTERM)
            code, _, _ = server.end()
        collector.shutdown()
    assert code == 0
    assert b"http.route" in b"".join(sent)
