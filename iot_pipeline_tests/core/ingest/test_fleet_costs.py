"""The cost model says what was measured, and moves the way costs do."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.cli.size import size_command
from iot_pipeline.core.ingest.fleet_costs import (
    DEVICE_DAY_BYTES,
    FULL,
    ROW_BYTES,
    Fleet,
    cassandra_us,
    client_us,
    cost_of,
)

DOCUMENT = Path(__file__).parents[3] / "docs" / "scaling.md"


def test_it_is_what_the_document_says_beside_what_was_measured() -> None:
    rows = re.findall(r"^\| drain, .*?((?:\| [\d.]+ ){5})\|$", DOCUMENT.read_text(), re.MULTILINE)
    assert len(rows) == 3
    for row in rows:
        together, client, of_client, cassandra, of_cassandra = map(
            float, row.replace("|", " ").split()
        )
        assert round(client_us(together), 1) == of_client == pytest.approx(client, rel=0.35)
        assert round(cassandra_us(together), 1) == of_cassandra == pytest.approx(cassandra, rel=0.1)


def test_it_foretells_what_two_cores_do() -> None:
    ten = cost_of(Fleet(10_000, 1.0, replication=1))
    assert ten.client_cores + ten.cassandra_cores == pytest.approx(2.0, rel=0.2)
    five = cost_of(Fleet(5_000, 1.0, replication=1))
    assert five.cassandra_cores == pytest.approx(0.73, rel=0.1)
    for devices, each, measured in ((350, 1440, 9_098_155), (20_000, 24, 10_573_000)):
        kept = devices * (each * ROW_BYTES + DEVICE_DAY_BYTES)
        assert kept == pytest.approx(measured, rel=0.01)


fleets = st.builds(
    Fleet,
    st.integers(1, 10**8),
    st.floats(0.01, 86_400),
    st.floats(0, 86_400),
    st.integers(1, 5),
    st.floats(1, 3_650),
)


@given(fleets)
def test_lanes_suffice_and_one_less_would_not(fleet: Fleet) -> None:
    cost = cost_of(fleet)
    assert cost.client_cores <= cost.lanes * FULL
    assert 1 <= cost.rows_together <= 100
    assert 0 < cost.catch_up_seconds <= 3600 * FULL / (1 - FULL) * 1.001
    if fleet.devices * 2 <= 10**8:
        twice = cost_of(
            Fleet(
                fleet.devices * 2,
                fleet.interval_seconds,
                fleet.every_seconds,
                fleet.replication,
                fleet.keep_days,
            )
        )
        assert twice.cassandra_cores >= cost.cassandra_cores * 1.2
        assert twice.bytes_kept == pytest.approx(cost.bytes_kept * 2)


def test_a_command_says_it_in_words_and_in_json() -> None:
    asked = ["--devices", "1000000", "--interval", "60s"]
    said = CliRunner().invoke(size_command, asked).output
    assert "16,667 readings/s, following" in said
    assert "3 nodes of 5 cores" in said
    assert "The first to be full is Cassandra" in said
    small = CliRunner().invoke(size_command, ["--devices", "10", "--interval", "10s"]).output
    assert "Nothing here comes near a full core." in small
    told = json.loads(CliRunner().invoke(size_command, [*asked, "--every", "1h", "--json"]).output)
    assert told["rows_together"] > 1
    assert told["lanes"] >= 1
    dense = CliRunner().invoke(size_command, ["--devices", "10", "--interval", "100ms"]).output
    assert "864,000 rows a day, all in one Cassandra partition" in dense
