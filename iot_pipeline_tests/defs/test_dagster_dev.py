"""All of it as a person uses it: `dagster dev`, its buttons, and what Cassandra holds then."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest

from iot_pipeline.connections import Connections, open_connections
from iot_pipeline.core.ledger.chain import LedgerEntry, sum_counts
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.reading.spans import Span, whole_day
from iot_pipeline.core.times import day_number
from iot_pipeline.defs.instance import prepare_instance
from iot_pipeline.defs.lanes import parse_ranges
from iot_pipeline.defs.names import RunProcess
from iot_pipeline.settings import Settings
from iot_pipeline.stages import requests
from iot_pipeline.stages.ledger.chain import Chain, read_chain
from iot_pipeline_tests.defs.dev_server import DevServer, dagster_dev, wait_for
from iot_pipeline_tests.defs.keys import CHECK_KEYS
from iot_pipeline_tests.patience import until
from iot_pipeline_tests.servers import Services, free_ports

pytestmark = pytest.mark.services

_MICRO_BATCH = 500


@dataclass
class Set:
    """Where `dagster dev` runs, and the same Kafka and Cassandra seen from the test."""

    home: Path
    env: dict[str, str]
    log_path: Path
    connections: Connections

    def start(self) -> AbstractContextManager[DevServer]:
        return dagster_dev(self.home, free_ports(1)[0], self.env, self.log_path)

    def sent(self) -> int:
        marks = self.connections.log.watermarks(self.connections.settings.topic)
        return sum(mark.last_stable - mark.low for mark in marks)

    def rows(self) -> int:
        rows = self.connections.rows
        total = 0
        # A test may run across midnight.
        for day in {datetime.now(UTC).date(), *self.days()}:
            for device in self.connections.days.devices(day):
                rest: Span | None = whole_day(device, day_number(day))
                while rest is not None:
                    counted = requests.wait_for(rows.start_count(rest), rows.wait)
                    total, rest = total + counted.rows, counted.rest
        return total

    def days(self) -> set[date]:
        chain = self.chain()
        return {day for entry in chain.entries for day in entry.counts.stored_by_day}

    def chain(self) -> Chain:
        settings = self.connections.settings
        return read_chain(self.connections.ledger, settings.topic, range(settings.partitions))

    def assert_everything_accounted_for(self) -> None:
        chain = self.chain()
        assert chain.flaws == []
        total = sum_counts(entry.counts for entry in chain.entries)
        assert total.accounted == total.stored == self.sent() == self.rows()


@pytest.fixture
def dev(services: Services, tmp_path: Path) -> Iterator[Set]:
    # Small micro-batches: a run has a middle that a test can hit. A faster machine has one as well:
    # each of 300 commits waits for the window of Cassandra's commit log.
    env = services.environment(
        IOT_DATA_DIR=str(tmp_path / "data"), IOT_MICRO_BATCH_RECORDS=str(_MICRO_BATCH)
    )
    settings = Settings.from_env(env)
    home = prepare_instance(tmp_path / "home")
    with open_connections(settings) as connections:
        yield Set(home, env, tmp_path / "dagster.log", connections)


def test_a_person_launches_watches_terminates_reexecutes_and_pulls_the_plug(dev: Set) -> None:
    with dev.start() as server:
        _a_newcomer_sees_readings_and_green_checks(server, dev)
        _nonsense_is_refused_in_the_launchpad(server)
        _a_terminated_simulation_says_the_true_count(server, dev)
        _a_reexecution_is_about_the_same_offsets(server, dev)
        _send_a_backlog(server)
        _a_terminated_ingest_ends_at_once_and_what_it_said_is_true(server, dev)
        _an_ingest_that_was_only_marked_as_ended_is_fenced(server, dev)
        killed = _the_plug_is_pulled_in_the_middle_of_a_run(server, dev)
    with dev.start() as server:
        _everything_resumes_by_itself(server, dev, killed)


def _send_a_backlog(server: DevServer) -> None:
    config = {"devices": 200, "as_fast_as_possible": True, "messages": 150_000}
    server.succeed(server.launch("simulate", config), 90)


def _a_newcomer_sees_readings_and_green_checks(server: DevServer, dev: Set) -> None:
    pages = server.pages()
    assert {"path": ["iot", "sensor_data"]} in [
        node["key"] for node in pages["assetsOrError"]["nodes"]
    ]
    server.succeed(server.launch("setup_schema"))
    server.succeed(server.launch("simulate", {"devices": 10, "rate": 1000, "seconds": 2}))
    assert dev.sent() == 2000
    sensor_id = server.start_sensor("iot_data_lag")
    run = wait_for(lambda: next(iter(server.runs(pipelineName="ingest")), None), 30)
    server.succeed(run["runId"])
    server.stop_sensor(sensor_id)
    for check in CHECK_KEYS:
        results = [r for r in server.checks(check.name) if r["runId"] == run["runId"]]
        assert [r["status"] for r in results] == ["SUCCEEDED"], (check.name, results)
    dev.assert_everything_accounted_for()


def _nonsense_is_refused_in_the_launchpad(server: DevServer) -> None:
    before = len(server.runs(pipelineName="simulate"))
    for nonsense, said in (
        ({"devices": 0}, "devices 0: Input should be greater than or equal to 1"),
        ({"rate": -1}, "rate -1"),
        ({"start": "yesterday"}, "yesterday: expected a time such as"),
        ({"devices": "many"}, "is not valid for expected type"),
    ):
        _is_refused(server, "simulate", nonsense, said)
    assert len(server.runs(pipelineName="simulate")) == before
    before = len(server.runs(pipelineName="ingest"))
    of_config: tuple[tuple[dict[str, Any], str], ...] = (
        ({"max_records": 0}, "max_records 0: Input should be greater than or equal to 1"),
        ({"ranges": {"0": {"start": 5, "end": 5}}}, "ranges 0:5-5: expected the number of a Kafka"),
        ({"ranges": {"0": {"start": -1, "end": 5}}}, "ranges.0.start -1: Input should be greater"),
        ({"ranges": {"one": {"start": 0, "end": 5}}}, "expected the number of a Kafka partition"),
        ({"ranges": {"0": [0, 5]}}, "Value at path root:ops:ingest_readings:config:ranges:"),
        ({"ranges": {"0": {"start": 0, "end": 5}}, "max_records": 9}, "leave max_records empty"),
    )
    for config, said in of_config:
        _is_refused(server, "ingest", {"ops": {"ingest_readings": {"config": config}}}, said)
    assert len(server.runs(pipelineName="ingest")) == before


def _is_refused(server: DevServer, job: str, nonsense: dict[str, Any], said: str) -> None:
    answer = server.try_launch(job, nonsense)
    assert answer["__typename"] in ("PythonError", "RunConfigValidationInvalid"), nonsense
    assert said in str(answer), answer
    # The reason comes first, and what Dagster adds after it.
    message = answer.get("message", said)
    assert said in message.splitlines()[0], message


def _a_terminated_simulation_says_the_true_count(server: DevServer, dev: Set) -> None:
    before = dev.sent()
    run_id = server.launch("simulate", {"devices": 10, "rate": 2000, "seconds": 3600})
    wait_for(lambda: True if dev.sent() > before + 1000 else None, 30)
    server.terminate(run_id)
    run = server.finish(run_id, 20)
    assert run["status"] == "CANCELED"
    said = [line for line in server.messages(run_id) if "ended before its time" in line]
    assert len(said) == 1
    acknowledged = int(said[0].split(": ")[1].split(" messages")[0].replace(",", ""))
    assert acknowledged == dev.sent() - before


def _a_reexecution_is_about_the_same_offsets(server: DevServer, dev: Set) -> None:
    first = server.launch("ingest")
    parent = server.succeed(first)
    again = server.succeed(server.reexecute(first))
    tags, tags_again = _tags(parent), _tags(again)
    assert tags["dagster/iot_achieved"]
    said = "\n".join(server.messages(again["runId"]))
    assert f"the same offsets, {tags['dagster/iot_achieved']}" in said
    assert tags_again["dagster/iot_process"].endswith(again["runId"])
    assert "below the checkpoint, so this is a replay; no checkpoint moves" in said
    assert tags_again["dagster/iot_achieved"] == tags["dagster/iot_achieved"]
    dev.assert_everything_accounted_for()


def _ingest_held_in_the_middle(server: DevServer, dev: Set) -> tuple[str, psutil.Process]:
    """Launch a run; its process, frozen after it has committed something and before its end.

    It runs in slices of a few commits, so the machine's speed decides nothing.
    """
    run_id = server.launch("ingest")

    def pid() -> int | None:
        tag = _tags(server.run(run_id)).get("dagster/iot_process")
        return None if tag is None else RunProcess.parse(tag).pid

    process = psutil.Process(wait_for(pid, 60, every_seconds=0.02))
    deadline = until(60)
    while True:
        process.suspend()
        if any(entry.run_id == run_id for entry in dev.chain().entries):
            return run_id, process
        process.resume()
        assert time.monotonic() < deadline, server.messages(run_id)[-5:]
        time.sleep(0.05)


def _a_terminated_ingest_ends_at_once_and_what_it_said_is_true(server: DevServer, dev: Set) -> None:
    run_id, process = _ingest_held_in_the_middle(server, dev)
    before = sum(entry.span for entry in dev.chain().entries if entry.run_id == run_id)
    with ThreadPoolExecutor(1) as pool:
        # Dagster sets an event and waits for the process, which finds it when it goes on.
        terminated = pool.submit(server.terminate, run_id)
        time.sleep(2)
        process.resume()
        terminated.result()
    run = server.finish(run_id, 60)
    assert run["status"] == "CANCELED"
    mine = _what_it_said_is_true(server, dev, run_id)
    committed = sum(entry.span for entry in mine)
    planned = sum(item.span for item in parse_ranges(_tags(run)["dagster/iot_ranges"]))
    assert 0 < before <= committed < planned
    (said,) = [line for line in server.messages(run_id) if "ended early" in line]
    assert f"ended early: {committed:,} of {planned:,} offsets" in said or "in doubt" in said
    # Every row the ledger counts is there; rows ahead of it may be, and the next run settles them.
    assert dev.rows() >= sum_counts(entry.counts for entry in dev.chain().entries).stored


def _an_ingest_that_was_only_marked_as_ended_is_fenced(server: DevServer, dev: Set) -> None:
    """A run is marked as ended, its process writes on, and another run takes its place."""
    run_id, process = _ingest_held_in_the_middle(server, dev)
    process.resume()
    # All that Force terminate does to a process that it cannot reach. One that it can reach it
    # asks to end as well, and that is over too soon to be in anybody's way.
    with dg.DagsterInstance.from_config(str(dev.home)) as instance:
        run = instance.get_run_by_id(run_id)
        assert run is not None
        instance.report_run_canceled(run, message="marked as canceled, nobody asked its process")
    assert process.is_running()
    winner = server.launch("ingest")
    server.succeed(winner, 90)
    psutil.wait_procs([process], timeout=90)
    assert not process.is_running()
    # It wrote on, or was fenced before it could: either way the ledger is exact.
    assert _what_it_said_is_true(server, dev, run_id)
    _what_it_said_is_true(server, dev, winner)
    server.succeed(server.launch("ingest"))
    dev.assert_everything_accounted_for()


def _what_it_said_is_true(server: DevServer, dev: Set, run_id: str) -> list[LedgerEntry]:
    """The run's rows in the ledger, which are what its tag says it achieved."""
    chain = dev.chain()
    assert chain.flaws == []
    mine = [entry for entry in chain.entries if entry.run_id == run_id]
    found = {OffsetRange(entry.partition, entry.start_offset, entry.end_offset) for entry in mine}
    said = set(parse_ranges(_tags(server.run(run_id)).get("dagster/iot_achieved", "")))
    if found != said:
        # A machine too slow to say in time: then the run says that it does not know.
        doubts = [line for line in server.messages(run_id) if line.startswith("in doubt")]
        assert doubts, (found, said, server.messages(run_id)[-5:])
        doubtful = parse_ranges(doubts[0].removeprefix("in doubt: ").split(",")[0])
        assert {item.partition for item in found ^ said} <= {item.partition for item in doubtful}
    return mine


def _tags(run: dict[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in run["tags"]}


def _the_plug_is_pulled_in_the_middle_of_a_run(server: DevServer, dev: Set) -> str:
    _send_a_backlog(server)
    run_id, _ = _ingest_held_in_the_middle(server, dev)
    assert server.run(run_id)["status"] == "STARTED"
    server.kill()
    return run_id


def _everything_resumes_by_itself(server: DevServer, dev: Set, killed: str) -> None:
    server.start_sensor("iot_data_lag")
    run = server.finish(killed, 30)
    assert run["status"] == "FAILURE"
    assert any("is gone" in line for line in server.messages(killed))

    def all_ingested() -> bool | None:
        done = sum(entry.span for entry in dev.chain().entries)
        return True if done == dev.sent() else None

    wait_for(all_ingested, 90, lambda: str(server.runs(pipelineName="ingest")[:3]))
    dev.assert_everything_accounted_for()
    wait_for(lambda: True if not server.runs(statuses=["STARTED", "QUEUED"]) else None, 30)
    newest = next(r for r in server.runs(pipelineName="ingest") if r["status"] == "SUCCESS")
    for name in ("every_offset_is_accounted_for", "ledger_has_no_gap", "row_count_matches_ledger"):
        results = [r for r in server.checks(name) if r["runId"] == newest["runId"]]
        assert [r["status"] for r in results] == ["SUCCEEDED"], (name, results)
