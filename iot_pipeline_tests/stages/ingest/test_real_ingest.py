"""A drain on real servers: everything arrives, once, whole, within its memory."""

import json
import os
import signal
import subprocess
import threading
import time
import uuid
from typing import Any

import psutil
import pytest

from iot_pipeline.connections import drain_config, open_connections
from iot_pipeline.core.ingest.micro_batch import MicroBatchBuilder
from iot_pipeline.core.ledger.chain import find_flaws
from iot_pipeline.core.reading.chunks import chunk_records
from iot_pipeline.core.reading.decoding import ReadingDecoder
from iot_pipeline.core.reading.messages import ReadingRules, Record
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.stages.ingest.drain import drain
from iot_pipeline.stages.ingest.planning import Plan, make_plan
from iot_pipeline.stages.ingest.row_writer import RowWriter
from iot_pipeline.stages.proof.dead_letters import read_newest_letters
from iot_pipeline_tests.load import (
    ORIGINAL,
    fleet,
    produce,
    produce_in_transaction,
    produce_largest,
    reading_json,
)
from iot_pipeline_tests.pipeline import IOT, Pipeline, new_run
from iot_pipeline_tests.servers import clean_environment

pytestmark = pytest.mark.services

MS = 1_735_444_918_316
MAX_RSS_BYTES = 500 * 1024 * 1024


@pytest.fixture
def device() -> str:
    return f"dev_{uuid.uuid4().hex[:8]}"


def assert_chain_holds(pipeline: Pipeline) -> None:
    ledger = pipeline.connections.ledger
    partitions = range(pipeline.settings.partitions)
    checkpoints = ledger.read_checkpoints(pipeline.topic, partitions)
    assert find_flaws(ledger.read_entries(pipeline.topic, partitions), checkpoints.values()) == []
    ends = {marks.partition: marks.last_stable for marks in pipeline.log.watermarks(pipeline.topic)}
    assert {p: found.next_offset for p, found in checkpoints.items()} == ends


def start_drain(pipeline: Pipeline, **settings: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [str(IOT), "drain", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment({**pipeline.env, **settings}),
    )


def test_two_hundred_thousand_messages_are_stored_once_within_500_mb(
    pipeline: Pipeline, device: str
) -> None:
    count, devices = 200_000, 200
    produce(pipeline.brokers, pipeline.topic, fleet(device, devices, count))
    process = start_drain(pipeline)
    watched = psutil.Process(process.pid)
    peak = 0
    while process.poll() is None:
        try:
            peak = max(peak, watched.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        time.sleep(0.01)
    out, err = process.communicate()
    assert process.returncode == 0, err
    drained = json.loads(out)
    print(f"{count / drained['seconds']:,.0f} rows/s, at most {peak / 2**20:.0f} MiB")
    assert drained["stored"] == count
    assert 0 < peak <= MAX_RSS_BYTES
    assert pipeline.count_rows(device, devices) == count

    ledger = pipeline.iot("ledger", "--json")
    marks = pipeline.log.watermarks(pipeline.topic)
    assert ledger["total"]["span"] == sum(m.last_stable - m.low for m in marks) == count
    assert ledger["total"]["stored"] == count
    assert ledger["flaws"] == []
    assert_chain_holds(pipeline)

    again = pipeline.iot("drain", "--json")
    assert (again["ranges"], again["stored"]) == ([], 0)
    after = pipeline.iot("ledger", "--json")
    assert after == ledger


def test_the_original_message_goes_in_and_comes_out(pipeline: Pipeline) -> None:
    produce(pipeline.brokers, pipeline.topic, [(b"device_2", ORIGINAL)])
    assert pipeline.iot("drain", "--json")["stored"] == 1
    assert pipeline.rows("device_2")[MS][:2] == (26.51, 40.78)
    found = pipeline.iot("readings", "device_2", "--json")["readings"]
    assert found[0] == {
        "timestamp": "2024-12-29T04:01:58.316Z",
        "temperature": 26.51,
        "humidity": 40.78,
    }


def test_zero_is_stored(pipeline: Pipeline, device: str) -> None:
    values = [reading_json(device, 1_735_444_918.0 + k, 0.0, 0.0) for k in range(2)]
    integers = json.dumps(
        {"device_id": device, "timestamp": 1_735_444_920, "temperature": 0, "humidity": 0}
    ).encode()
    produce(pipeline.brokers, pipeline.topic, [(None, v) for v in (*values, integers)])
    assert pipeline.drain().total.stored == 3
    assert [row[:2] for row in pipeline.rows(device).values()] == [(0.0, 0.0)] * 3


def test_milliseconds_survive_the_trip_from_float_seconds(pipeline: Pipeline, device: str) -> None:
    """Every 43rd millisecond of the original message's day, both ends included."""
    midnight = 1_735_430_400_000
    sent = [*range(midnight, midnight + 86_400_000, 43_019), midnight + 86_399_999]
    # The shortest decimal of the float, as json.dumps(time.time()) sends it.
    produce(
        pipeline.brokers, pipeline.topic, [(b"k", reading_json(device, ms / 1000)) for ms in sent]
    )
    pipeline.drain()
    assert sorted(pipeline.rows(device)) == sorted(set(sent))


def conflicting(device: str, *versions: float) -> list[tuple[bytes | None, bytes | None]]:
    """One primary key, several values; a torn row would take the larger of each."""
    return [(b"k", reading_json(device, MS / 1000, v, 100 - v)) for v in versions]


def whole_row(pipeline: Pipeline, device: str) -> tuple[float, float]:
    (row,) = pipeline.rows(device).values()
    return row[:2]


@pytest.mark.parametrize("versions", [(10.0, 20.0, 30.0), (30.0, 20.0, 10.0), (20.0, 30.0, 10.0)])
def test_conflicting_readings_in_one_micro_batch_make_the_last_ones_row_whole(
    pipeline: Pipeline, device: str, versions: tuple[float, ...]
) -> None:
    produce(pipeline.brokers, pipeline.topic, conflicting(device, *versions))
    progress = pipeline.drain()
    assert (progress.total.stored, progress.total.superseded) == (1, 2)
    assert whole_row(pipeline, device) == (versions[-1], 100 - versions[-1])


@pytest.mark.parametrize("versions", [(10.0, 20.0, 30.0), (30.0, 20.0, 10.0)])
def test_conflicting_readings_in_several_micro_batches_and_runs_do_so_too(
    pipeline: Pipeline, device: str, versions: tuple[float, ...]
) -> None:
    # More between them than one poll gives out, in several appends and so in several broker
    # milliseconds: the first micro-batch ends before the second version, and the two meet in
    # Cassandra and not before.
    between = [(b"k", value) for _, value in fleet(f"{device}_x", 1, 2500)]
    for version in versions[:2]:
        produce(pipeline.brokers, pipeline.topic, conflicting(device, version))
        for at in range(0, len(between), 500):
            produce(pipeline.brokers, pipeline.topic, between[at : at + 500])
    progress = pipeline.drain(micro_batch_records=1)
    assert progress.micro_batches > 2
    produce(pipeline.brokers, pipeline.topic, conflicting(device, versions[2]))
    pipeline.drain()
    expected = (versions[-1], 100 - versions[-1])
    assert whole_row(pipeline, device) == expected
    # Everything once more, later ranges first: the same records make the same cells.
    drain_again(pipeline, device, newest_first=True)
    assert whole_row(pipeline, device) == expected
    drain_again(pipeline, device, newest_first=False)
    assert whole_row(pipeline, device) == expected


def drain_again(pipeline: Pipeline, device: str, newest_first: bool) -> None:
    """Write this device's records again, a micro-batch each, as after lost commits."""
    plan = make_plan(pipeline.log, pipeline.connections.ledger, pipeline.topic)
    whole = [OffsetRange(s.partition, s.low, s.last_stable) for s in plan.states if s.checkpoint]
    source = pipeline.log.open_ranges(pipeline.topic, whole)
    records: list[Record] = []
    while len(source.finished) < len(whole):
        records += [r for r in source.poll(0.1) if f'"{device}"'.encode() in (r.value or b"")]
    source.close()
    records.sort(key=lambda record: record.offset, reverse=newest_first)
    assert len(records) == 3
    for record in records:
        builder = MicroBatchBuilder(
            {record.partition: record.offset}, ReadingDecoder(ReadingRules())
        )
        (chunk,) = chunk_records([record])
        builder.add(chunk)
        writer = RowWriter(pipeline.connections.store, 8, 10.0)
        writer.begin(builder.build({record.partition: record.offset + 1}))
        while not writer.pump(0.1):
            pass


def test_holes_are_counted_and_the_checkpoint_moves_past_them(
    pipeline: Pipeline, device: str
) -> None:
    good = reading_json(device, 1_735_444_918.0)
    produce_in_transaction(pipeline.brokers, pipeline.topic, [good], commit=True)
    produce_in_transaction(pipeline.brokers, pipeline.topic, [good] * 3, commit=False)
    total = pipeline.drain().total
    assert (total.stored, total.holes, total.accounted) == (1, 5, 6)
    assert_chain_holds(pipeline)


BAD: dict[str, tuple[bytes | None, str]] = {
    "not JSON": (b"hello", "not_json"),
    "invalid UTF-8": (b'{"device_id":"\xff\xfe"}', "not_json"),
    "NaN": (
        b'{"device_id":"d","timestamp":1735444918.3,"temperature":NaN,"humidity":1.0}',
        "not_json",
    ),
    "missing field": (
        b'{"device_id":"d","timestamp":1735444918.3,"temperature":1.0}',
        "missing_field",
    ),
    "wrong type": (
        b'{"device_id":"d","timestamp":1735444918.3,"temperature":"1","humidity":1.0}',
        "wrong_type",
    ),
    "absurd value": (reading_json("d", 1_735_444_918.3, 4000.0), "out_of_range"),
    "empty device_id": (reading_json("", 1_735_444_918.3), "out_of_range"),
    "milliseconds for seconds": (reading_json("d", 1_735_444_918_316.0), "out_of_range"),
    "null value": (None, "no_value"),
}


def test_bad_records_arrive_unchanged_with_their_reasons_and_good_neighbours_are_stored(
    pipeline: Pipeline, device: str
) -> None:
    messages: list[tuple[bytes | None, bytes | None]] = []
    for number, (name, (value, _)) in enumerate(BAD.items()):
        messages.append((name.encode(), value))
        messages.append((b"good", reading_json(device, 1_735_444_918.0 + number)))
    where: Any = {"partition": 2, "headers": [("trace", b"42"), ("none", None)]}
    produce(pipeline.brokers, pipeline.topic, messages, **where)
    largest = produce_largest(pipeline.brokers, pipeline.topic, b"the largest", **where)
    messages.append((b"the largest", largest))
    bad = {**BAD, "the largest": (largest, "too_large")}
    total = pipeline.drain().total
    assert (total.stored, total.rejected) == (len(BAD), len(bad))
    assert len(pipeline.rows(device)) == len(BAD)

    letters = read_dlq(pipeline)
    assert len(letters) == len(bad)
    for name, (value, reason) in bad.items():
        key, found, headers, of = letters[name.encode()]
        assert (key, found, of["iot.reason"]) == (name.encode(), value, reason.encode()), name
        assert headers[:2] == [("trace", b"42"), ("none", None)]
        assert of["__connect.errors.topic"] == pipeline.topic.encode()
        assert of["__connect.errors.partition"] == b"2"
        offset = int(of["__connect.errors.offset"] or b"-1")
        assert messages[offset] == (name.encode(), value)
        assert of["iot.topic_id"] == pipeline.log.topic_id(pipeline.topic).encode()
        assert of["iot.message"]
    assert_chain_holds(pipeline)
    listed = read_newest_letters(pipeline.log, pipeline.settings.dead_letter_topic, 100)
    assert [item.letter.reason for item in reversed(listed.letters)] == [r for _, r in bad.values()]


def read_dlq(pipeline: Pipeline) -> dict[bytes | None, Any]:
    """message key -> (key, value, headers, our headers) of the dead-letter topic."""
    topic = pipeline.settings.dead_letter_topic
    (marks,) = pipeline.log.watermarks(topic)
    places = [(0, offset) for offset in range(marks.low, marks.last_stable)]
    return {
        r.message_key: (r.message_key, r.value, r.headers or [], dict(r.headers or []))
        for r in pipeline.log.read_offsets(topic, places)
    }


def test_of_two_drains_of_one_range_one_wins_and_the_other_is_fenced(
    pipeline: Pipeline, device: str
) -> None:
    produce(pipeline.brokers, pipeline.topic, fleet(device, 20, 20_000))
    # Both plan before either commits: the plans are made first, then run at once.
    plans = [make_plan(pipeline.log, pipeline.connections.ledger, pipeline.topic) for _ in "ab"]
    runs = [new_run() for _ in plans]
    ended: dict[int, Any] = {}

    def one(number: int, plan: Plan) -> None:
        with open_connections(pipeline.settings) as connections:
            ended[number] = drain(
                plan, connections.ports, runs[number], drain_config(pipeline.settings)
            )

    threads = [threading.Thread(target=one, args=item) for item in enumerate(plans)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(ended) == [0, 1]
    tiles: list[OffsetRange] = sorted(r for progress in ended.values() for r in progress.ranges)
    names = {run.run_id for run in runs}
    assert any(progress.fenced for progress in ended.values())
    for number, progress in ended.items():
        for fenced in progress.fenced:
            assert fenced.by_run_id in names - {runs[number].run_id}
    # One range per partition was won once; what a fenced run left is for the next one.
    assert len({tile.partition for tile in tiles}) == len(tiles)
    pipeline.drain()
    assert_chain_holds(pipeline)
    assert pipeline.count_rows(device, 20) == 20_000
    total = pipeline.iot("ledger", "--json")["total"]
    assert (total["span"], total["stored"]) == (20_000, 20_000)


def test_a_drain_that_was_overtaken_ends_with_exit_code_3_and_names_the_winner(
    pipeline: Pipeline, device: str
) -> None:
    count = 60_000
    produce(pipeline.brokers, pipeline.topic, fleet(device, 20, count), partition=0)
    # First contact, so that there is a checkpoint to watch.
    make_plan(pipeline.log, pipeline.connections.ledger, pipeline.topic)
    slow = start_drain(pipeline, IOT_MICRO_BATCH_RECORDS="1000")
    ledger = pipeline.connections.ledger
    try:
        # Stopped in the middle of its range, as a machine that pauses is.
        while ledger.read_checkpoints(pipeline.topic, [0])[0].next_offset == 0:
            assert slow.poll() is None, slow.communicate()
        os.kill(slow.pid, signal.SIGSTOP)
        # A commit that was on its way when its sender stopped still counts and fences us once.
        winner = pipeline.drain()
        if winner.fenced:
            winner = pipeline.drain()
        os.kill(slow.pid, signal.SIGCONT)
        out, err = slow.communicate(timeout=60)
    finally:
        if slow.poll() is None:
            slow.kill()
    assert winner.total.stored > 0
    assert slow.returncode == 3, err
    newest = ledger.read_entries(pipeline.topic, [0])[0]
    answer = json.loads(out)
    assert answer["fenced"] == [f"partition 0: run {newest.run_id} is at offset {count}"]
    assert newest.run_id != answer["run_id"]
    assert_chain_holds(pipeline)
    assert pipeline.count_rows(device, 20) == count
