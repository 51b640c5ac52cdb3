"""A rough day's simulation verified against the table, on real servers."""

from pathlib import Path

import pytest

from iot_pipeline_tests.pipeline import Pipeline

pytestmark = pytest.mark.services


def test_what_a_simulation_sent_is_found_or_named(pipeline: Pipeline) -> None:
    backfill = ("--since", "2026-01-01", "--until", "2026-01-01T00:03:00")
    sent = pipeline.iot("simulate", "--scenario", "rough_day", *backfill, "--json")
    manifest = Path(sent["manifest"])
    before = pipeline.iot("verify", str(manifest), exit_code=1)
    assert "DIFFERS" in before
    assert "`iot drain`, then verify again" in before
    pipeline.iot("drain")
    found = pipeline.iot("verify", str(manifest), "--json")
    assert found["passed"], found
    assert found["sent"] > 5_000
    assert found["dead_letters"] == found["malformed"] > 0
    # A row that goes missing, of a device whose clock was right.
    told = pipeline.iot("verify", str(manifest), "--all", "--json")["differing"]
    device = next(one["device_id"] for one in told if one["rows"] == one["sent"] > 0)
    days = pipeline.connections.days.days_of(device)
    keyspace = pipeline.settings.keyspace
    for day in days:
        pipeline.connections.cassandra.execute(
            f"DELETE FROM {keyspace}.sensor_data WHERE device_id = '{device}' AND day = '{day}'",
            doing="removing rows behind its back",
        )
    said = pipeline.iot("verify", str(manifest), exit_code=1)
    assert f"DIFFERS: 1 of {found['devices']} devices" in said
    assert device in said
