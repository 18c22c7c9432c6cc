"""Distributed tracing: the caller's W3C trace context, and OpenTelemetry spans where it is set up.

Spans are made when the OpenTelemetry SDK is installed (`pip install 'flatfold[telemetry]'`) and
told where to send them, by its own variable OTEL_EXPORTER_OTLP_ENDPOINT or
OTEL_EXPORTER_OTLP_TRACES_ENDPOINT. OTEL_TRACES_EXPORTER=none and OTEL_SDK_DISABLED=true hold, and
so does OTEL_SERVICE_NAME. What a span says follows OpenTelemetry's conventions for HTTP servers.
"""

from __future__ import annotations

import logging
import os
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger(__name__)

# https://www.w3.org/TR/trace-context/: version, trace id, parent id, flags; no ff, no zeros alone.
_TRACEPARENT = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)
_SERVICE_NAME = "service.name"
_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def trace_id(headers: Mapping[bytes, bytes]) -> str | None:
    """Return the caller's trace id, 32 hexadecimal digits; None without a valid traceparent."""
    found = _TRACEPARENT.fullmatch(headers.get(b"traceparent", b""))
    return found[1].decode() if found else None


class Tracing:
    """Makes one server span a request."""

    def __init__(self, tracer: Any, propagator: Any, kind: Any, failed: Any) -> None:
        self._tracer = tracer
        self._propagator = propagator
        self._kind = kind
        self._failed = failed

    def record(
        self, headers: Mapping[bytes, bytes], attributes: Mapping[str, Any], started: int
    ) -> None:
        """Record a finished request; one that the server failed is marked as an error.

        Args:
            headers: of the request; its trace context is the span's parent.
            attributes: by OpenTelemetry's names, `http.request.method` and
                `http.response.status_code` among them, and `http.route` where there is one.
            started: nanoseconds since 1970.
        """
        carrier = {
            name: headers[name.encode()].decode("latin-1")
            for name in ("traceparent", "tracestate")
            if name.encode() in headers
        }
        method, status = attributes["http.request.method"], attributes["http.response.status_code"]
        route = attributes.get("http.route")
        name = method if route is None else f"{method} {route}"
        parent = self._propagator.extract(carrier)
        span = self._tracer.start_span(name, parent, self._kind, attributes, start_time=started)
        if status >= 500:  # what is wrong with a request, a 4xx, is no failure of a server
            span.set_attribute("error.type", str(status))
            span.set_status(self._failed)
        span.end()


def make_tracing(environment: Mapping[str, str] = os.environ) -> Tracing | None:
    """Return what makes spans, or None where OpenTelemetry is not installed or not configured."""
    wanted = any(environment.get(name) for name in _VARIABLES)
    switched_off = (
        environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
        or environment.get("OTEL_TRACES_EXPORTER", "").lower() == "none"
    )
    if switched_off or not wanted:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 (optional)
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 (optional)
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 (optional)
    except ModuleNotFoundError as error:
        logger.warning(
            "traces are asked for, and %s is missing: pip install 'flatfold[telemetry]'", error.name
        )
        return None
    provider = TracerProvider(resource=resource())
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return tracing_with(provider)


def resource() -> Any:
    """Return whom spans come from: OpenTelemetry's own answer, by the name flatfold if by none."""
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 (optional)

    found = Resource.create()
    if str(found.attributes[_SERVICE_NAME]).startswith("unknown_service"):
        found = found.merge(Resource({_SERVICE_NAME: "flatfold"}))
    return found


def tracing_with(provider: Any) -> Tracing:
    """Return tracing that gives its spans to `provider`."""
    from opentelemetry.trace import SpanKind, StatusCode  # noqa: PLC0415 (optional)
    from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415 (optional)
        TraceContextTextMapPropagator,
    )

    propagator = TraceContextTextMapPropagator()
    tracer = provider.get_tracer("flatfold")
    return Tracing(tracer, propagator, SpanKind.SERVER, StatusCode.ERROR)
