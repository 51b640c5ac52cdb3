"""What the launchpad of `simulate` accepts; that a run sends it is tested with servers."""

from datetime import UTC, datetime

import dagster as dg
import pytest

from iot_pipeline.core.simulator.fault_specs import FaultKind
from iot_pipeline.core.simulator.manifest import FaultTruth, Manifest
from iot_pipeline.defs.simulation import SimulateConfig, manifest_metadata
from iot_pipeline.errors import ConfigurationError

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"devices": 10, "rate": 1000, "seconds": 2},
        {"scenario": "rough_day"},
        {"scenario": "smart_home", "speed": 60, "seconds": 86_400},
        {"scenario": "backfill_month", "since": "2026-01-01", "until": "2026-02-01"},
        {"scenario": "smart_city", "as_fast_as_possible": True, "seed": 7},
    ],
)
def test_what_makes_sense_is_accepted(fields):
    SimulateConfig(**fields)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"scenario": "nope"}, "or a path"),
        ({"scenario": "rough_day", "devices": 7}, "devices: the scenario's file"),
        ({"scenario": "rough_day", "messages": 7}, "messages: the scenario's file"),
        ({"scenario": "rough_day", "speed": 2, "as_fast_as_possible": True}, "contradict"),
        ({"scenario": "rough_day", "since": "2026-01-01", "speed": 2}, "leave out speed"),
        ({"scenario": "rough_day", "seconds": 200_000}, "a higher speed"),
        ({"speed": 60}, "speed: of a scenario"),
        ({"seconds": 200_000}, "at most 86,400"),
    ],
)
def test_what_contradicts_itself_is_refused_before_there_is_a_run(fields, said):
    with pytest.raises(ConfigurationError, match=said):
        SimulateConfig(**fields)


def test_the_page_of_a_run_names_each_fault_its_device_and_its_offsets(tmp_path):
    fault = FaultTruth(
        kind=FaultKind.STUCK,
        device_id="kitchen_1",
        first_at=NOON,
        last_at=NOON,
        messages=3,
        offsets={2: [(10, 11), (19, 19)]},
    )
    manifest = Manifest(
        manifest_id="m",
        topic="t",
        scenario="mine",
        seed=1,
        speed=None,
        start_at=NOON,
        end_at=NOON,
        began_at=NOON,
        written_at=NOON,
        is_complete=True,
        is_stopped=False,
        produced=3,
        acknowledged=3,
        failed=0,
        unconfirmed=0,
        withheld=0,
        devices=[],
        faults=[fault],
    )
    metadata = manifest_metadata(manifest, tmp_path)
    assert metadata["faults"] == 1
    assert metadata["manifest"] == dg.MetadataValue.path(tmp_path / "manifests/m.json")
    assert "| stuck | 1 | 1 | 3 |" in metadata["faults_by_kind"].value
    assert "| stuck | `kitchen_1` | 01 Mar 12:00:00 " in metadata["injected_faults"].value
    assert "2:10…19" in metadata["injected_faults"].value
