"""The only speaker of OpenTelemetry: traces of micro-batches, by OTLP over HTTP.

Its own environment variables switch it on, and say where to, how often and which headers
(OTEL_EXPORTER_OTLP_ENDPOINT and its like). Without them nothing of it is imported.
"""

import logging
import os
import threading
from collections.abc import Mapping
from typing import Any

from iot_pipeline.core.ingest.traces import BatchTrace
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.extras import extras_named

_log = logging.getLogger(__name__)

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_SPOKEN = "http/protobuf"
SERVICE = "iot_pipeline"
# A run that ends waits two seconds at most for a collector; what it did not take is not sent.
_LAST_SECONDS = 2.0


def first_of(names: tuple[str, ...], env: Mapping[str, str]) -> str:
    return next((env[name] for name in names if env.get(name)), "")


def open_traces(env: Mapping[str, str] | None = None) -> "OtelTraces | None":
    """What exports traces; None where OpenTelemetry's variables do not ask for it.

    They may be meant for other programs: what they ask for and we cannot do is a warning.
    """
    asked = os.environ if env is None else env
    if not first_of(_ENDPOINTS, asked) or asked.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    if asked.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp":
        return None
    if (protocol := first_of(_PROTOCOLS, asked) or _SPOKEN) != _SPOKEN:
        _log.warning("no traces: OpenTelemetry's %s is asked for, we speak %s", protocol, _SPOKEN)
        return None
    try:
        with extras_named():
            return OtelTraces()
    except (ConfigurationError, ValueError) as exc:
        _log.warning("no traces, though OpenTelemetry's variables ask for them: %s", exc)
        return None


class OtelTraces:
    """A `Traces`: what it is given leaves in a thread of its own, a few seconds later."""

    def __init__(self) -> None:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        resource = Resource.create()
        if not (os.environ.get("OTEL_SERVICE_NAME") or _is_named(resource)):
            resource = resource.merge(Resource({"service.name": SERVICE}))
        self._api: Any = trace
        self._exporter = OTLPSpanExporter()
        # Not the process's global one: that is a team's.
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer(SERVICE)

    def export(self, trace: BatchTrace) -> None:
        api = self._api
        whole = self._tracer.start_span(
            "micro_batch",
            kind=api.SpanKind.CONSUMER,
            start_time=trace.start_ns,
            attributes=_attributes_of(trace),
        )
        inside = api.set_span_in_context(whole)
        for step in trace.steps:
            span = self._tracer.start_span(
                step.name,
                inside,
                start_time=step.start_ns,
                attributes={"iot.busy_ms": step.busy_ns / 1e6},
            )
            span.end(step.end_ns)
        if trace.error:
            whole.set_status(api.StatusCode.ERROR, trace.error)
        whole.end(trace.end_ns)

    def close(self) -> None:
        """Send what is left, and give up after two seconds: the SDK would wait for thirty."""
        last = threading.Thread(target=self._provider.shutdown, daemon=True)
        last.start()
        last.join(_LAST_SECONDS)
        if last.is_alive():
            _log.warning("the collector did not take the last traces in %g s", _LAST_SECONDS)
            self._exporter.shutdown()


def _is_named(resource: Any) -> bool:
    return not str(resource.attributes.get("service.name", "unknown_service")).startswith(
        "unknown_service"
    )


def _attributes_of(trace: BatchTrace) -> dict[str, Any]:
    """By OpenTelemetry's names for messaging where it has some."""
    found: dict[str, Any] = {
        "messaging.system": "kafka",
        "messaging.operation.type": "process",
        "messaging.destination.name": trace.topic,
        "messaging.batch.message_count": trace.records,
        "iot.run_id": trace.run_id,
        "iot.ranges": [str(item) for item in trace.ranges],
        "iot.rows": trace.rows,
        "iot.dead_letters": trace.dead_letters,
    }
    if len(trace.ranges) == 1:
        (only,) = trace.ranges
        found["messaging.destination.partition.id"] = str(only.partition)
        found["messaging.kafka.offset"] = only.start
    return found
