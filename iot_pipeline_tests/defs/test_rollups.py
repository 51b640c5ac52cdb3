"""Rollups in Dagster: backfills in one run, touched days found and rebuilt by themselves."""

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from iot_pipeline.core.rollups.statistics import Rollup
from iot_pipeline.core.times import day_number
from iot_pipeline.definitions import build_definitions
from iot_pipeline.defs import rollup_sensor
from iot_pipeline.defs.names import PROCESS, RunProcess
from iot_pipeline.defs.rollups import RANGE_END, RANGE_START
from iot_pipeline_tests.defs.conftest import Dagster, Outcome
from iot_pipeline_tests.defs.keys import DAILY_READINGS, HOURLY_READINGS
from iot_pipeline_tests.load import produce, reading_json
from iot_pipeline_tests.pipeline import Pipeline

pytestmark = pytest.mark.services

SENSOR = "rollups_of_touched_days"
FIRST = date(2026, 3, 9)
DAYS = [FIRST + timedelta(days=number) for number in range(3)]
DEVICES = ["r_0", "r_1"]
BOTH = (HOURLY_READINGS, DAILY_READINGS)


@pytest.fixture
def keyspace() -> str:
    """A keyspace of this test's own: rollups are of every row of a day."""
    return f"iot_test_{uuid.uuid4().hex[:10]}"


@pytest.fixture(autouse=True)
def _sensor_client(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("IOT_ROLLUP_START", "2026-01-01")
    yield
    rollup_sensor._client.cache_clear()


@pytest.fixture
def ingested(dagster: Dagster, pipeline: Pipeline) -> Pipeline:
    """Two devices, a reading every 20 minutes on each of three days."""
    send(pipeline, DAYS, DEVICES, range(0, 1440, 20))
    assert dagster.materialize().is_success
    return pipeline


def send(pipeline: Pipeline, days: list[date], devices: list[str], minutes: Any) -> None:
    messages = [
        (name.encode(), reading_json(name, at(day) + minute * 60, 10.0 + minute / 100, 50.0))
        for day in days
        for minute in minutes
        for name in devices
    ]
    produce(pipeline.brokers, pipeline.topic, messages, partition=0)


def at(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def backfill(dagster: Dagster, first: date, last: date) -> Outcome:
    """One run over a range of days, as the UI's backfill of a range launches it."""
    tags = {RANGE_START: str(first), RANGE_END: str(last)}
    return dagster.launch("rollups", tags=tags)


def materialized(dagster: Dagster, key: dg.AssetKey) -> dict[str, dict[str, Any]]:
    """Partition -> metadata of its newest materialization."""
    records = dagster.instance.fetch_materializations(key, limit=100).records
    found: dict[str, dict[str, Any]] = {}
    for record in reversed(records):
        assert record.asset_materialization is not None
        values = record.asset_materialization.metadata
        found[str(record.partition_key)] = {name: value.value for name, value in values.items()}
    return found


def stored(
    pipeline: Pipeline, device_id: str, day: date
) -> tuple[dict[int, Rollup], Rollup | None]:
    store = pipeline.connections.rollups
    number = day_number(day)
    hours, days = (
        store.start_hours(device_id, number, number),
        store.start_days(device_id, number, number),
    )
    while not (hours.done and days.done):
        store.wait(0.1)
    assert hours.error is None
    assert days.error is None
    return hours.found, next(iter(days.found.values()), None)


def tick(dagster: Dagster, cursor: str | None = None) -> dg.SensorResult:
    with dg.build_sensor_context(
        instance=dagster.instance, definitions=dagster.definitions, cursor=cursor
    ) as context:
        (sensor,) = (s for s in dagster.definitions.sensors or () if s.name == SENSOR)
        answer = sensor(context)
    assert isinstance(answer, dg.SensorResult), answer
    return answer


def ranges(answer: dg.SensorResult) -> list[tuple[str, str]]:
    return [
        (request.tags[RANGE_START], request.tags[RANGE_END])
        for request in answer.run_requests or ()
    ]


def test_a_single_run_rolls_up_a_range_of_days_and_each_is_a_materialization(
    dagster: Dagster, ingested: Pipeline
) -> None:
    outcome = backfill(dagster, DAYS[0], DAYS[2])
    assert outcome.is_success, outcome.failure
    assert outcome.red == {}
    # Or the sensor takes one that needs more than two minutes for dead, and begins another.
    assert RunProcess.parse(outcome.run.tags[PROCESS]) == RunProcess.current(outcome.run.run_id)
    assert set(outcome.checks) == {"rollup_counts_match_rows", "rebuild_changes_nothing"}
    for key, rollups in ((HOURLY_READINGS, 48), (DAILY_READINGS, 2)):
        found = materialized(dagster, key)
        assert set(found) == {str(day) for day in DAYS}
        for numbers in found.values():
            assert (numbers["readings"], numbers["devices"]) == (144, 2)
            assert numbers["rollups"] == rollups
            assert numbers["dagster/partition_row_count"] == rollups
            assert next(iter(numbers)) == "summary"
        for picture in ("day_by_the_hour", "days"):
            drawn = [day for day, numbers in found.items() if picture in numbers]
            assert drawn == [str(DAYS[2])], "one picture a run, with its last day"
            assert found[str(DAYS[2])][picture].startswith("![")
    for name in DEVICES:
        for day in DAYS:
            hours, whole = stored(ingested, name, day)
            assert [rollup.count for rollup in hours.values()] == [3] * 24
            assert whole is not None
            assert whole.count == 72
            stats = whole.stats["temperature"]
            assert stats["first"] == 10.0
            assert stats["last"] == pytest.approx(24.2)
            assert stats["mean"] == pytest.approx(17.1)


def test_a_worker_that_does_not_know_with_which_day_readings_begin_rebuilds_what_it_is_asked_for(
    dagster: Dagster, ingested: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on another host, whose disk nobody told.
    monkeypatch.setenv("IOT_ROLLUP_START", str(datetime.now(UTC).date()))
    elsewhere = Dagster(build_definitions(), dagster.instance)
    outcome = backfill(elsewhere, DAYS[0], DAYS[1])
    assert outcome.is_success, outcome.failure
    assert set(materialized(dagster, DAILY_READINGS)) == {str(DAYS[0]), str(DAYS[1])}
    assert stored(ingested, DEVICES[0], DAYS[1])[1] is not None
    assert "expected the earlier day first" in backfill(elsewhere, DAYS[1], DAYS[0]).failure


def test_late_data_changes_the_rollup_of_its_day_by_itself_and_no_other(
    dagster: Dagster, ingested: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IOT_ROLLUP_QUIET_SECONDS", "0")
    assert ranges(tick(dagster)) == [(str(DAYS[0]), str(DAYS[2]))]
    assert backfill(dagster, DAYS[0], DAYS[2]).is_success
    answer = tick(dagster)
    assert ranges(answer) == []
    assert "no day was touched" in str(answer.skip_reason)
    before = {day: ingested.connections.rollups.read_records(ingested.topic)[day] for day in DAYS}

    send(ingested, [DAYS[1]], ["r_0"], [601])
    assert dagster.materialize().is_success
    (request,) = tick(dagster).run_requests or ()
    assert ranges(tick(dagster)) == [(str(DAYS[1]), str(DAYS[1]))]
    assert dagster.launch("rollups", tags=request.tags).is_success

    hours, whole = stored(ingested, "r_0", DAYS[1])
    assert sorted(rollup.count for rollup in hours.values()) == [3] * 23 + [4]
    assert whole is not None
    assert whole.count == 73
    after = ingested.connections.rollups.read_records(ingested.topic)
    assert {day for day in DAYS if after[day] != before[day]} == {DAYS[1]}
    assert ranges(tick(dagster)) == []


def test_a_deletion_and_a_replay_touch_their_day(
    dagster: Dagster, ingested: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IOT_ROLLUP_QUIET_SECONDS", "0")
    assert backfill(dagster, DAYS[0], DAYS[2]).is_success
    noon = f"{DAYS[1]}T12:00:00"
    ingested.iot(
        "delete",
        "r_0",
        "--since",
        noon,
        "--until",
        f"{DAYS[1]}T13:00:00",
        "--reason",
        "test",
        "--yes",
    )
    assert ranges(tick(dagster)) == [(str(DAYS[1]), str(DAYS[1]))]
    assert backfill(dagster, DAYS[1], DAYS[1]).is_success
    hours, whole = stored(ingested, "r_0", DAYS[1])
    assert len(hours) == 23
    assert whole is not None
    assert whole.count == 69

    # Rows that were lost, restored by a replay: no ledger counts them twice, the day is touched.
    table = f"{ingested.settings.keyspace}.sensor_data"
    (written,) = {row[2] for row in list(ingested.rows("r_1", str(DAYS[0])).values())[:1]}
    ingested.connections.cassandra.execute(
        f"DELETE FROM {table} USING TIMESTAMP {written - 10_000_000} "
        f"WHERE device_id = 'r_1' AND day = '{DAYS[0]}'",
        doing="testing",
    )
    assert dagster.launch("replay", {"ranges": {"0": {"start": 0, "end": 144}}}).is_success
    assert ranges(tick(dagster))[0][0] == str(DAYS[0])


def test_a_touched_day_waits_until_it_is_quiet_and_the_sensor_says_so(
    dagster: Dagster, ingested: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IOT_ROLLUP_QUIET_SECONDS", "60")
    answer = tick(dagster)
    assert ranges(answer) == []
    assert "3 touched days wait" in str(answer.skip_reason)
    assert answer.cursor is not None
    waiting = json.loads(answer.cursor)
    assert set(waiting) == {str(day) for day in DAYS}
    aged = {
        day: [seen, since - 61, changed - 61] for day, (seen, since, changed) in waiting.items()
    }
    assert ranges(tick(dagster, json.dumps(aged))) == [(str(DAYS[0]), str(DAYS[2]))]


def test_rows_that_came_past_the_ledgers_turn_the_checks_red(
    dagster: Dagster, ingested: Pipeline
) -> None:
    assert backfill(dagster, DAYS[0], DAYS[2]).is_success
    ms = int(at(DAYS[2]) * 1000) + 1
    ingested.connections.cassandra.execute(
        f"INSERT INTO {ingested.settings.keyspace}.sensor_data (device_id, day, timestamp, "
        f"temperature, humidity) VALUES ('r_1', '{DAYS[2]}', {ms}, 99, 1)",
        doing="testing",
    )
    keys = {
        dg.AssetCheckKey(key, name)
        for key in BOTH
        for name in ("rollup_counts_match_rows", "rebuild_changes_nothing")
    }
    job = dagster.definitions.resolve_implicit_global_asset_job_def().get_subset(
        asset_selection=set(), asset_check_selection=keys
    )

    def check() -> dict[dg.AssetCheckKey, Any]:
        result = job.execute_in_process(instance=dagster.instance, raise_on_error=False)
        assert result.success
        return {item.asset_check_key: item for item in result.get_asset_check_evaluations()}

    red = check()
    assert set(red) == keys
    for item in red.values():
        assert not item.passed
        assert f"iot rollup --day {DAYS[2]}" in str(item.description)
    assert "the rollups count 144 readings, the table has 145" in str(
        red[dg.AssetCheckKey(DAILY_READINGS, "rollup_counts_match_rows")].description
    )
    ingested.iot("rollup", "--day", str(DAYS[2]))
    assert all(item.passed for item in check().values())


def test_a_day_whose_rows_age_out_is_refused_by_its_run_and_left_out_of_a_range(
    dagster: Dagster, ingested: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert backfill(dagster, DAYS[0], DAYS[2]).is_success
    monkeypatch.setenv("IOT_RETENTION_DAYS", "0.02")  # half an hour: less than frozen ahead
    single = backfill(dagster, DAYS[0], DAYS[0])
    assert not single.is_success
    assert "age out" in single.failure
    whole = backfill(dagster, DAYS[0], DAYS[2])
    assert not whole.is_success
    assert "each of these days age out" in whole.failure
    _, kept = stored(ingested, "r_0", DAYS[0])
    assert kept is not None
    assert kept.count == 72


def test_partitions_begin_where_readings_begin(
    dagster: Dagster, ingested: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IOT_ROLLUP_START")
    monkeypatch.setenv("IOT_ROLLUP_QUIET_SECONDS", "0")
    before = Dagster(build_definitions(), dagster.instance)
    assert first_partition(before) == str(datetime.now(UTC).date())
    answer = tick(before)
    assert ranges(answer) == []
    assert f"3 touched days are before the partitions that are loaded: {DAYS[0]} to" in str(
        answer.skip_reason
    )
    after = Dagster(build_definitions(), dagster.instance)
    assert first_partition(after) == str(DAYS[0])
    assert ranges(tick(after)) == [(str(DAYS[0]), str(DAYS[2]))]
    assert backfill(after, DAYS[0], DAYS[2]).is_success


def first_partition(dagster: Dagster) -> str:
    graph = dagster.definitions.resolve_asset_graph()
    partitions = graph.get(DAILY_READINGS).partitions_def
    assert partitions is not None
    first = partitions.get_first_partition_key()
    assert first is not None
    return first
