"""Rows that Cassandra refuses, and the window of the writer."""

import itertools
from dataclasses import replace
from typing import Any

import pytest

from iot_pipeline.core.ingest.micro_batch import MicroBatch
from iot_pipeline.core.reading.messages import Reason
from iot_pipeline.errors import CassandraUnavailableError, PermanentError, RowsRefusedError
from iot_pipeline.stages.ingest.config import DrainConfig
from iot_pipeline.stages.ingest.following import Follow, open_ended
from iot_pipeline.stages.ingest.row_writer import DEVICE_REFRESH_MS, RowWriter
from iot_pipeline_tests.stages.fakes import FAR_ABOVE, FakeStore
from iot_pipeline_tests.stages.faults import Faults, How
from iot_pipeline_tests.stages.world import CONFIG, LARGE, T0, World

# Rows that Cassandra refuses.


def many_rows(count: int) -> World:
    world = World()
    world.log.poll_records = 1000
    for step in range(count):
        world.write(at=T0 + step)
        world.log.tick()
    return world


def refuse_steps(world: World, steps: set[int]) -> None:
    refused = {int((T0 + step) * 1000) for step in steps}
    world.store.refuse = lambda _device, ms: ms in refused


@pytest.mark.parametrize("steps", [{0}, {99}, {10, 11}, {3, 50, 51, 98}])
def test_refused_rows_are_found_by_halving_and_become_dead_letters(steps):
    world = many_rows(100)
    refuse_steps(world, steps)
    progress = world.drain(config=LARGE)
    assert {offset for _, offset in world.letters.by_place()} == steps
    assert {letter.reason for letter in world.letters.by_place().values()} == {
        Reason.REJECTED_BY_CASSANDRA
    }
    assert (progress.total.stored, progress.total.rejected) == (100 - len(steps), len(steps))
    assert len(world.store.sent_rows) <= 1 + len(steps) * 14, "halved, not one by one"
    world.check_all_is_drained()


@pytest.mark.parametrize("ticks_ms", [[1], [-30], [1, 1], [1, 1, 1], [1, -30, 60], [-30, 1, 60]])
def test_what_lost_to_a_refused_row_is_a_dead_letter_too(ticks_ms):
    world = many_rows(20)
    for number, ms in enumerate(ticks_ms, start=1):
        world.log.tick(ms)
        world.write(at=T0 + 5, temperature=float(number))
    refuse_steps(world, {5})
    progress = world.drain(config=LARGE)
    copies = len(ticks_ms)
    assert {offset for _, offset in world.letters.by_place()} == {5, *range(20, 20 + copies)}
    assert (progress.total.stored, progress.total.superseded) == (19, 0)
    assert progress.total.rejected == 1 + copies
    world.check_all_is_drained()


def why_stopped(world: World, config: DrainConfig = LARGE, **options: Any) -> dict[int, str]:
    progress = world.drain(config=config, **options)
    assert all(isinstance(why, PermanentError) for why in progress.stopped.values())
    return {partition: str(why) for partition, why in progress.stopped.items()}


def test_many_refusals_stop_the_partition_with_nothing_moved():
    world = many_rows(100)
    refuse_steps(world, set(range(0, 22, 2)))
    (said,) = why_stopped(world).values()
    assert "11 of 100 rows of Kafka partition 0" in said
    assert world.ledger.checkpoints["iot_data", 0].next_offset == 0
    assert not world.letters.delivered
    world.store.refuse = lambda _device, _ms: False
    world.drain(config=LARGE)
    world.check_all_is_drained()


def test_a_device_refused_with_all_of_its_rows_does_not_stop_the_others():
    world = many_rows(20)
    for number in range(7):
        world.write(device=f"d{number}")
    world.store.refuse = lambda device, _ms: device == "d3"
    world.store.refuse_device = lambda device: device == "d3"
    progress = world.drain(config=LARGE)
    assert set(world.letters.by_place()) == {(0, 23)}
    assert (progress.total.stored, progress.total.rejected) == (26, 1)
    world.check_all_is_drained()


def many_partitions(partitions: int, rows: int) -> World:
    world = World(partitions=partitions)
    world.log.poll_records = 1000
    for step in range(rows):
        for partition in range(partitions):
            world.write(partition, at=T0 + step)
        world.log.tick()
    return world


@pytest.mark.parametrize("poll_records", [15, 1000])
@pytest.mark.parametrize("is_followed", [False, True])
def test_refusals_of_one_partition_stop_that_one_and_the_others_are_drained(
    poll_records, is_followed
):
    world = many_partitions(3, 200)
    world.log.poll_records = poll_records
    world.store.looks_until_answered = 3
    world.write_bad(1)
    world.write_bad(2)
    # What comes after them is good, and still no checkpoint may pass over them.
    world.store.refuse = lambda device, ms: device == "device_1" and 30 <= ms / 1000 - T0 < 45
    looks = itertools.count()
    # Ten thousand looks at a clock of its own, however long they take.
    follow = Follow(seconds=10.0, linger_seconds=0.0, clock=lambda: next(looks) / 1000)
    config = replace(LARGE, micro_batch_records=15, follow=follow if is_followed else None)
    plan = open_ended(world.plan()) if is_followed else world.plan()
    seen: list[MicroBatch] = []
    stopped = why_stopped(world, config, plan=plan, observe=seen.append)
    assert list(stopped) == [1]
    assert "rows of Kafka partition 1" in stopped[1]
    world.check()
    ends = {p: world.ledger.checkpoints["iot_data", p].next_offset for p in range(3)}
    assert (ends[0], ends[2]) == (200, 201)
    assert ends[1] <= 30
    assert {place for place, _ in world.letters.by_place()} == {2}
    # What was committed is seen once, and nothing of what was not.
    rows = [row for batch in seen for _, group in batch.groups.items() for row in group.values()]
    assert sorted(row[1] for row in rows if row[2] == 0) == list(range(200))
    assert all(row[1] < ends[1] for row in rows if row[2] == 1)
    if poll_records == 15:
        written = [name for name, _ in world.store.rows() if name == "device_1"]
        assert len(written) < 100, "it is not read on"
    # The fingerprint is that of a record below the checkpoint.
    known = world.ledger.checkpoints["iot_data", 1].fingerprint
    assert known is None or known.offset < ends[1]

    world.store.refuse = lambda _device, _ms: False
    assert not why_stopped(world)
    world.check_all_is_drained()


def test_one_error_names_every_partition_whose_rows_were_refused():
    world = many_partitions(3, 40)
    world.store.refuse = lambda device, _ms: device != "device_1"
    with pytest.raises(RowsRefusedError) as error:
        world.ingest()
    assert "partitions 0, 2 stopped" in str(error.value)
    assert world.ledger.checkpoints["iot_data", 1].next_offset == 40


def test_a_few_refusals_of_each_of_many_partitions_are_too_many_as_well():
    world = many_partitions(6, 20)
    world.store.refuse = lambda _device, ms: ms < (T0 + 3) * 1000
    assert len(why_stopped(world)) >= 4
    world.check()


def test_a_partition_whose_reading_lost_to_a_refused_one_waits_with_it():
    world = many_partitions(3, 40)
    # The same key in partition 0: it loses to the one that is refused.
    world.write(0, device="device_1", at=T0 + 39.5)
    world.log.tick(1)
    world.write(1, at=T0 + 39.5, temperature=1.0)
    world.store.refuse = lambda device, _ms: device == "device_1"
    stopped = why_stopped(world)
    assert sorted(stopped) == [0, 1]
    assert "has the key of one of partition 1" in stopped[0]
    world.check()
    world.store.refuse = lambda _device, _ms: False
    assert not why_stopped(world)
    world.check_all_is_drained()


def test_a_device_refused_without_its_rows_stops_its_partition_with_nothing_moved():
    world = many_rows(20)
    world.write(device="d3")
    world.store.refuse_device = lambda device: device == "d3"
    assert "d3 has 1 rows on 2024-12-29" in why_stopped(world)[0]
    assert world.ledger.checkpoints["iot_data", 0].next_offset == 0
    world.store.refuse_device = lambda _device: False
    world.drain(config=LARGE)
    world.check_all_is_drained()


def test_a_refused_row_whose_record_is_gone_stops_the_partition_instead_of_losing_it():
    world = many_rows(20)
    refuse_steps(world, {5})
    faults = Faults(
        1, How.HOOK, only="log.read_offsets", hook=lambda: world.log.delete_before(0, 10)
    )
    assert "their records, the first at (0, 5)" in why_stopped(world, faults=faults)[0]
    assert world.ledger.checkpoints["iot_data", 0].next_offset == 0


# The writer: window, retries, devices.


@pytest.mark.parametrize("requests_in_flight", [1, 2, 7])
@pytest.mark.parametrize("how", [How.ANSWER_LOST, How.NOT_APPLIED, How.NOT_SENT])
def test_no_more_requests_are_on_their_way_than_allowed(requests_in_flight, how):
    world = World()
    for number in range(400):
        world.write(device=f"d{number}")
    world.store.looks_until_answered = 3
    config = replace(
        CONFIG, micro_batch_records=1000, requests_in_flight=requests_in_flight, retry_seconds=5.0
    )
    world.drain(config=config, faults=Faults(7, how, 5, only="store.send_rows"))
    assert world.store.most_in_flight == requests_in_flight
    world.check_all_is_drained()


def test_rows_of_one_cassandra_partition_travel_together_300_at_most():
    world = many_rows(700)
    world.drain(config=LARGE)
    assert [len(rows) for rows in world.store.sent_rows] == [300, 300, 100]


def test_a_day_of_a_device_is_noted_once_in_a_run_and_again_when_the_note_is_a_day_old():
    world = World()
    world.log.poll_records = 1
    for step in range(12):
        world.write(at=T0 + step)
        world.log.tick()
    world.drain()
    assert len(world.store.sent_devices) == 1
    world.log.tick(DEVICE_REFRESH_MS)
    world.write(at=T0 + 100)
    world.drain()
    assert len(world.store.sent_devices) == 2, "another run notes it again"
    for _ in range(5):
        world.write(at=T0 + 200)
        world.log.tick(DEVICE_REFRESH_MS)
    progress = world.drain(config=replace(CONFIG, micro_batch_records=1))
    assert progress.micro_batches > 2
    assert len(world.store.sent_devices) == 2 + progress.micro_batches, (
        "or the note's TTL would end before that of the rows"
    )


def test_a_device_is_remembered_as_noted_only_when_its_write_is_acknowledged():
    world = World()
    world.write(device="d")
    batches = []
    original = RowWriter.begin
    store = FakeStore(looks_until_answered=2)
    writer = RowWriter(store, 8, 1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            RowWriter, "begin", lambda self, b, most: (batches.append(b), original(self, b, most))
        )
        world.drain()
    writer.begin(batches[0])
    writer.pump()
    assert store.sent_devices
    assert not writer._noted_devices, "sent, and not yet acknowledged"
    while not writer.pump():
        pass
    assert list(writer._noted_devices.values()) == [world.log.now_ms]
    writer.begin(batches[0])
    while not writer.pump():
        pass
    assert len(store.sent_devices) == 1


def test_a_writer_gives_up_only_when_nothing_succeeds_for_long():
    world = many_rows(1)
    faults = Faults(1, How.NOT_APPLIED, FAR_ABOVE, only="store.send_rows")
    with pytest.raises(CassandraUnavailableError):
        world.drain(faults=faults, config=replace(LARGE, retry_seconds=0.02))
    assert len(faults.calls) > 3
    world.check()
