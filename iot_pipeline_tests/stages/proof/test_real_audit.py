import uuid
from collections import Counter

import pytest

from iot_pipeline.core.proof.audit_result import Fate
from iot_pipeline.core.times import MS_PER_DAY
from iot_pipeline.stages.proof.read_back import sum_rows
from iot_pipeline_tests.load import ORIGIN_SECONDS, fleet, produce, reading_json

pytestmark = pytest.mark.services

MS = 1735444919000


@pytest.fixture
def name() -> str:
    return f"audited_{uuid.uuid4().hex[:8]}"


def audit(pipeline, *arguments, exit_code=0):
    report = pipeline.iot("audit", "--json", *arguments, exit_code=exit_code)
    assert sum(report[fate] for fate in Fate if fate is not Fate.STRAY) == report["offsets"]
    return report


def cql(pipeline, statement):
    statement = statement.format(table=f"{pipeline.settings.keyspace}.sensor_data")
    pipeline.connections.cassandra.execute(statement, doing="meddling")


@pytest.fixture
def filled(pipeline, name):
    """300 readings of 3 devices in an otherwise empty table, drained."""
    cql(pipeline, "TRUNCATE {table}")
    produce(pipeline.brokers, pipeline.topic, fleet(name, 3, 300), partition=0)
    pipeline.drain()
    return pipeline


def first_row_of(device_id):
    return f"WHERE device_id = '{device_id}' AND day = '2024-12-29' AND timestamp = {MS}"


def test_what_was_ingested_is_proved_and_kept(filled, name):
    duplicate = (f"{name}_0".encode(), reading_json(f"{name}_0", ORIGIN_SECONDS, 3.0))
    produce(filled.brokers, filled.topic, [duplicate, duplicate, (None, b"bad"), (None, None)])
    filled.drain()
    produce(filled.brokers, filled.topic, [duplicate])
    report = audit(filled)
    fates = (report["stored"], report["superseded"], report["repeated"], report["rejected"])
    assert fates == (300, 1, 1, 2)
    assert report["in_flight"] == 1
    assert report["is_stray_judged"]
    kept = filled.connections.cassandra.execute(
        f"SELECT fates FROM {filled.settings.keyspace}.audits WHERE topic = '{filled.topic}'",
        doing="reading audits",
    )
    assert kept[0].fates["stored"] == 300


def test_a_row_removed_behind_its_back_is_lost_by_name_until_it_is_replayed(filled, name):
    written = filled.rows(f"{name}_1")[MS][2]
    cql(filled, f"DELETE FROM {{table}} USING TIMESTAMP {written - 1} " + first_row_of(f"{name}_1"))
    assert audit(filled)["lost"] == 0  # the tombstone is older than the row
    cql(filled, "TRUNCATE {table}")
    report = audit(filled, exit_code=1)
    assert report["lost"] == 300
    filled.iot("replay", "--since", "2020-01-01", "--json")
    assert audit(filled)["stored"] == 300
    cql(filled, f"DELETE FROM {{table}} USING TIMESTAMP {written} " + first_row_of(f"{name}_1"))
    report = audit(filled, exit_code=1)
    assert report["lost"] == 1
    (finding,) = report["findings"]
    assert (finding["device_id"], finding["timestamp_ms"]) == (f"{name}_1", MS)
    assert finding["repair"].startswith("iot replay --offsets ")


@pytest.mark.parametrize("at_the_same_time", [True, False])
def test_a_cell_changed_is_torn_by_name(filled, name, at_the_same_time):
    written = filled.rows(f"{name}_1")[MS][2]
    using = f"USING TIMESTAMP {written}" if at_the_same_time else ""
    cql(filled, f"UPDATE {{table}} {using} SET temperature = 149 " + first_row_of(f"{name}_1"))
    report = audit(filled, exit_code=1)
    assert (report["torn"], report["lost"]) == (1, 0)
    assert report["findings"][0]["device_id"] == f"{name}_1"


@pytest.mark.parametrize("is_known", [True, False])
def test_a_row_of_somebody_else_is_stray_by_name(filled, name, is_known):
    device_id = f"{name}_1" if is_known else f"foreign_{name}"
    cql(
        filled,
        "INSERT INTO {table} (device_id, day, timestamp, temperature, humidity) "
        f"VALUES ('{device_id}', '2024-12-29', 1735450000000, 1.0, 2.0)",
    )
    report = audit(filled, exit_code=1)
    assert (report["stray"], report["lost"], report["torn"]) == (1, 0, 0)
    assert report["findings"][0]["device_id"] == device_id


def test_readings_deleted_on_purpose_are_known_to_audits_and_replays(filled, name):
    said = filled.iot(
        "delete", f"{name}_1", "--day", "2024-12-29", "--reason", "a test", "--yes", "--json"
    )
    assert said["deleted"] == 100
    assert not filled.rows(f"{name}_1")
    report = audit(filled)
    assert (report["stored"], report["deleted"]) == (200, 100)
    replayed = filled.iot("replay", "--since", "2020-01-01", "--json")
    assert replayed["deleted"] == 100
    assert not filled.rows(f"{name}_1")


def test_a_part_of_the_topic_is_audited_without_judging_strays(filled, name):
    produce(filled.brokers, filled.topic, fleet(f"{name}_more", 1, 5), partition=1)
    filled.drain()
    report = audit(filled, "--offsets", "0:0-5")
    assert (report["offsets"], report["stored"], report["is_stray_judged"]) == (5, 5, False)


def test_many_rows_of_one_day_are_added_up_and_a_row_more_is_found(pipeline, name):
    # Past 5,000 rows the sum of their write times is more than 64 bits hold.
    cql(pipeline, "TRUNCATE {table}")
    produce(pipeline.brokers, pipeline.topic, fleet(name, 1, 6_000), partition=0)
    pipeline.drain()
    (day,) = {ms // MS_PER_DAY for ms in pipeline.rows(f"{name}_0")}
    rows, totals = Counter[tuple[str, int]](), Counter[tuple[str, int]]()
    places = [(f"{name}_0", day), ("none", day)]
    for place, sums in sum_rows(pipeline.connections.rows, places, 10.0):
        rows[place] += sums.rows
        totals[place] = (totals[place] + sums.totals[0]) % 2**64
        assert sums.totals[0] == sums.totals[1]
    written = sum(row[2] for row in pipeline.rows(f"{name}_0").values())
    assert written > 2**63
    assert dict(rows) == {places[0]: 6_000, places[1]: 0}
    assert dict(totals) == {places[0]: written % 2**64, places[1]: 0}
    assert audit(pipeline)["stored"] == 6_000
    at = pipeline.rows(f"{name}_0")[MS][2]
    values = f"('{name}_0', '2024-12-29', {MS + 1}, 1.0, 1.0) USING TIMESTAMP {at}"
    columns = "(device_id, day, timestamp, temperature, humidity)"
    cql(pipeline, f"INSERT INTO {{table}} {columns} VALUES {values}")
    assert audit(pipeline, exit_code=1)["stray"] == 1
