"""Traces of micro-batches, as a collector of OpenTelemetry gets them; and nothing without one."""

import logging
import socket
import subprocess
import sys
import time

import pytest

from iot_pipeline.clients.traces import open_traces
from iot_pipeline.core.ingest.traces import BatchTrace, Step
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline_tests.receivers import collector
from iot_pipeline_tests.servers import clean_environment

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
AT = 1_735_444_918_000_000_000


def trace_of(*ranges: OffsetRange, error: str = "") -> BatchTrace:
    steps = [
        Step("consume", AT, AT + 9_000_000, 5_000_000),
        Step("commit", AT + 9_000_000, AT + 12_000_000, 3_000_000),
    ]
    return BatchTrace("iot_data", "run-7", ranges, 100, 90, 3, steps, error)


def value_of(attribute: object) -> object:
    value = attribute.value  # type: ignore[attr-defined]
    if value.HasField("array_value"):
        return [item.string_value for item in value.array_value.values]
    return getattr(value, value.WhichOneof("value"))


def test_a_collector_gets_a_micro_batch_and_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    with collector() as received:
        monkeypatch.setenv(ENDPOINT, received.endpoint)
        traces = open_traces()
        assert traces is not None
        traces.export(trace_of(OffsetRange(3, 100, 200)))
        traces.export(trace_of(OffsetRange(0, 5, 6), OffsetRange(1, 7, 9), error="KafkaX: away"))
        traces.close()
    assert set(received.paths) == {"/v1/traces"}
    resource = {
        item.key: value_of(item)
        for item in received.requests[0].resource_spans[0].resource.attributes
    }
    assert resource["service.name"] == "iot_pipeline"
    wholes = [span for span in received.spans if span.name == "micro_batch"]
    found = {item.key: value_of(item) for item in wholes[0].attributes}
    assert found == {
        "messaging.system": "kafka",
        "messaging.operation.type": "process",
        "messaging.destination.name": "iot_data",
        "messaging.destination.partition.id": "3",
        "messaging.kafka.offset": 100,
        "messaging.batch.message_count": 100,
        "iot.run_id": "run-7",
        "iot.ranges": ["3:100-200"],
        "iot.rows": 90,
        "iot.dead_letters": 3,
    }
    assert (wholes[0].start_time_unix_nano, wholes[0].end_time_unix_nano) == (AT, AT + 12_000_000)
    steps = [span for span in received.spans if span.parent_span_id == wholes[0].span_id]
    assert [(s.name, s.end_time_unix_nano - s.start_time_unix_nano) for s in steps] == [
        ("consume", 9_000_000),
        ("commit", 3_000_000),
    ]
    assert steps[0].trace_id == wholes[0].trace_id != wholes[1].trace_id
    ranges = {item.key: value_of(item) for item in wholes[1].attributes}["iot.ranges"]
    assert ranges == ["0:5-6", "1:7-9"]
    assert (wholes[1].status.code, wholes[1].status.message) == (2, "KafkaX: away")


def test_a_collector_that_never_answers_keeps_no_run_from_ending(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv(ENDPOINT, f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "60")
        traces = open_traces()
        assert traces is not None
        traces.export(trace_of(OffsetRange(0, 0, 1)))
        began = time.monotonic()
        traces.close()
        # The SDK by itself waits for thirty.
        assert time.monotonic() - began < 20
    assert "the collector did not take the last traces in 2 s" in caplog.text


@pytest.mark.parametrize(
    "env",
    [
        {},
        {ENDPOINT: ""},
        {ENDPOINT: "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
        {ENDPOINT: "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"},
        {ENDPOINT: "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
    ],
)
def test_nothing_is_exported_where_it_is_not_asked_for(env: dict[str, str]) -> None:
    assert open_traces(env) is None


def test_without_the_extra_a_run_goes_on_and_says_what_brings_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with caplog.at_level(logging.WARNING):
        assert open_traces({ENDPOINT: "http://127.0.0.1:1"}) is None
    assert "pip install 'iot-pipeline[otel]'" in caplog.text


def test_a_variable_that_the_sdk_refuses_ends_no_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "10")
    with caplog.at_level(logging.WARNING):
        assert open_traces({ENDPOINT: "http://127.0.0.1:1"}) is None
    assert "no traces, though OpenTelemetry's variables ask for them" in caplog.text


def test_nothing_of_it_is_imported_where_it_is_off() -> None:
    code = (
        "import sys\n"
        "from iot_pipeline.connections import open_connections\n"
        "from iot_pipeline.settings import Settings\n"
        "with open_connections(Settings()) as connections:\n"
        "    assert connections.open_traces() is None\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
    )
    env = {name: value for name, value in clean_environment({}).items() if "OTEL_" not in name}
    subprocess.run([sys.executable, "-c", code], env=env, check=True, timeout=120)
