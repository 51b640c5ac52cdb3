"""Cassandra has nothing to say against what we send, however many devices share the readings."""

from dataclasses import replace

import pytest

from iot_pipeline_tests.pipeline import Pipeline
from iot_pipeline_tests.servers import Services

pytestmark = pytest.mark.services
COUNT = 40_000


@pytest.mark.parametrize("write_path", ["packed", "driver"])
@pytest.mark.parametrize("devices", [10, 1_000, 20_000])
def test_no_drain_is_warned_of_its_batches(
    services: Services, pipeline: Pipeline, devices: int, write_path: str
) -> None:
    kept = {"topic": pipeline.topic, "IOT_DATA_DIR": pipeline.env["IOT_DATA_DIR"]}
    pipeline = replace(pipeline, env=services.environment(**kept, IOT_WRITE_PATH=write_path))
    before = services.log_size("cassandra")
    pipeline.iot("setup")
    sent = pipeline.iot(
        *("simulate", "--devices", str(devices), "--count", str(COUNT)),
        *("--rate", "max", "--start", "2024-12-29T00:00:00Z", "--json"),
    )
    drained = pipeline.iot("drain", "--json")
    assert sent["acknowledged"] == drained["stored"] == COUNT
    assert services.batch_warnings(before) == []
