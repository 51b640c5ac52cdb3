"""Groups of a declaration, on real servers: limits and retention of their own."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka import Producer

from iot_pipeline.settings_reading import shipped_folder
from iot_pipeline_tests.patience import until
from iot_pipeline_tests.pipeline import Pipeline
from iot_pipeline_tests.servers import Services

pytestmark = pytest.mark.services

# Its rows live four seconds.
SECONDS = 4
GROUPS = f"""
groups:
- {{name: short, devices: short_*, retention_days: {SECONDS / 86_400}}}
- {{name: kept, devices: kept_*, retention_days: 0, silent_seconds: 7200}}
- {{name: nobody, devices: n_*}}
"""


@pytest.fixture
def settings_env(services: Services, tmp_path: Path) -> dict[str, str]:
    """As every test's, with groups and a retention of all other devices."""
    declared = (shipped_folder() / "seed.yaml").read_text("utf-8") + GROUPS
    (tmp_path / "reading.yaml").write_text(declared)
    return services.environment(
        IOT_DATA_DIR=str(tmp_path / "data"),
        IOT_READING=str(tmp_path / "reading.yaml"),
        IOT_RETENTION_DAYS="30",
    )


def ttl_of(pipeline: Pipeline, device_id: str) -> list[int | None]:
    client = pipeline.connections.cassandra
    return [
        row[0]
        for day in pipeline.connections.days.days_of(device_id)
        for row in client.execute(
            f"SELECT ttl(temperature) FROM {client.keyspace}.sensor_data "
            "WHERE device_id = ? AND day = ?",
            (device_id, day),
            doing="reading TTLs",
        )
    ]


def test_rows_of_a_group_age_out_by_its_own_retention_and_the_others_stay(
    pipeline: Pipeline,
) -> None:
    client = pipeline.connections.cassandra
    client.execute(
        f"ALTER TABLE {client.keyspace}.sensor_data WITH default_time_to_live = 600",
        doing="making a default that a row says otherwise to",
    )
    names = ["short_1", "short_2", "kept_1", "other_1"]
    now = time.time()
    producer = Producer({"bootstrap.servers": pipeline.brokers})
    for number in range(40):
        value = {"device_id": names[number % 4], "timestamp": now - 40 + number}
        value |= {"temperature": 20.0 + number % 7, "humidity": 50.0}
        producer.produce(pipeline.topic, json.dumps(value).encode())
    producer.flush()
    over_at = time.time() + SECONDS

    checked = pipeline.iot("reading", "check", "--json")
    assert checked["devices_by_group"] == {"short": 2, "kept": 1, "nobody": 0}
    said = pipeline.iot("reading", "check")
    assert "the group nobody has none of these devices: none is called n_*" in said
    assert "retention_days" in pipeline.iot("reading", "show")
    said = pipeline.iot("settings", "--device", "short_7")
    assert "its rows live for 4.62963e-05 days" in said
    assert "it is of the group short (short_*)" in said

    drained = pipeline.iot("drain", "--json")
    assert (drained["stored"] + drained["aged_out"], drained["rejected"]) == (40, 0)
    assert ttl_of(pipeline, "kept_1") == [None] * 10
    (other,) = {ttl is not None and 29 < ttl / 86_400 <= 30 for ttl in ttl_of(pipeline, "other_1")}
    assert other
    deadline = until(SECONDS + 30)
    # Cassandra counts whole seconds: a row may be gone a second before its time.
    while ttl_of(pipeline, "short_1") + ttl_of(pipeline, "short_2") or time.time() <= over_at:
        assert time.monotonic() < deadline
        time.sleep(0.2)

    audit = pipeline.iot("audit", "--all", "--json")
    assert (audit["aged_out"], audit["stored"], audit["lost"]) == (20, 20, 0)
    # Written again they would live again.
    since = datetime.fromtimestamp(now - 60, UTC).isoformat()
    replayed = pipeline.iot("replay", "--since", since, "--json")
    assert replayed["read_back"]["equal"] == 20
    assert ttl_of(pipeline, "short_1") == []
    listed = pipeline.iot("devices")
    assert "declared groups without a device" in listed
