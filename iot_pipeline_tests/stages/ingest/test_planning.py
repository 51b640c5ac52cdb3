import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from iot_pipeline.core.reading.offsets import Checkpoint, OffsetRange
from iot_pipeline.errors import (
    ConfigurationError,
    KafkaUnavailableError,
    OffsetsExpiredError,
    PlanError,
    SchemaMismatchError,
    TopicChangedError,
    TransientError,
)
from iot_pipeline.stages.ingest.planning import make_plan, read_states
from iot_pipeline_tests.stages.fakes import NOW_MS
from iot_pipeline_tests.stages.faults import Crash, FailingLedger, Faults, How
from iot_pipeline_tests.stages.world import T0, World


def a_world(partitions: int = 2, records: int = 5) -> World:
    """Records one second apart in each partition."""
    world = World(partitions=partitions)
    for step in range(records):
        for p in range(partitions):
            world.write(p, at=T0 + step)
        world.log.tick(1000)
    return world


def starts(world: World) -> dict[int, int]:
    return {p: c.next_offset for (_, p), c in world.ledger.checkpoints.items()}


def test_first_contact_starts_at_the_earliest_record_that_is_there():
    world = a_world()
    world.log.delete_before(1, 3)
    plan = world.plan()
    assert starts(world) == {0: 0, 1: 3}
    assert plan.ingest == [OffsetRange(0, 0, 5), OffsetRange(1, 3, 5)]
    assert {c.topic_id for c in plan.checkpoints.values()} == {world.log.uuid}
    assert {c.epoch for c in plan.checkpoints.values()} == {0}


def test_first_contact_may_start_at_the_latest():
    world = a_world()
    assert world.plan(start_at="latest").ingest == []
    world.write(0)
    assert world.plan(start_at="latest").ingest == [OffsetRange(0, 5, 6)]


def test_first_contact_may_start_at_a_time():
    world = a_world()
    moment = datetime.fromtimestamp(NOW_MS / 1000 + 2.5, UTC)
    assert world.plan(start_at=moment.isoformat()).ingest == [
        OffsetRange(0, 3, 5),
        OffsetRange(1, 3, 5),
    ]


def test_first_contact_at_a_time_after_everything_is_the_end():
    world = a_world()
    assert world.plan(start_at="2100-01-01T00:00:00+00:00").ingest == []
    assert starts(world) == {0: 5, 1: 5}


def test_first_contact_at_a_time_never_starts_inside_an_open_transaction():
    world = a_world(partitions=1)
    world.log.open_transaction_at[0] = 2
    moment = datetime.fromtimestamp(NOW_MS / 1000 + 3.5, UTC)
    assert world.plan(start_at=moment.isoformat()).ingest == []
    assert starts(world) == {0: 2}
    assert world.plan().ingest == [], "and the next plan does not call the log truncated"


def test_first_contact_is_made_once():
    world = a_world()
    world.plan(start_at="latest")
    assert world.plan(start_at="earliest").ingest == []


def test_somebody_who_was_first_stands():
    world = a_world(partitions=1)
    theirs = Checkpoint(0, 2, 0, world.log.uuid)
    faults = Faults(
        1,
        How.HOOK,
        only="ledger.first_contact",
        hook=lambda: world.ledger.first_contact("iot_data", [theirs]),
    )
    plan = make_plan(world.log, FailingLedger(world.ledger, faults), "iot_data")
    assert plan.ingest == [OffsetRange(0, 2, 5)]


@pytest.mark.parametrize("start_at", ["earliest", "latest", "2100-01-01T00:00:00+00:00"])
def test_partitions_added_later_start_at_their_beginning_whatever_the_setting(start_at):
    world = a_world()
    world.drain()
    world.partitions = world.log.partitions = 4
    world.write(3, at=T0)
    world.write(3, at=T0 + 1)
    assert world.plan(start_at=start_at).ingest == [OffsetRange(3, 0, 2)]
    world.drain()
    world.check_all_is_drained()


def test_what_expired_in_an_added_partition_before_it_was_seen_is_a_loss():
    world = a_world()
    world.drain()
    world.partitions = world.log.partitions = 3
    for step in range(4):
        world.write(2, at=T0 + step)
    world.log.delete_before(2, 3)
    assert "offsets 0 to 2" in str(world.plan().stopped[2])


@pytest.mark.parametrize("dies_at", [1, 2])
@pytest.mark.parametrize("start_at", ["earliest", "latest"])
def test_a_first_contact_that_died_half_way_is_finished_by_the_same_rule(start_at, dies_at):
    world = a_world()
    for p in range(2):
        world.log.delete_before(p, 2)
    faults = Faults(dies_at, How.CRASH_BEFORE, only="ledger.first_contact")
    failing = FailingLedger(world.ledger, faults)
    with pytest.raises(Crash):
        make_plan(world.log, failing, "iot_data", start_at=start_at)
    world.plan(start_at=start_at)
    expected = 2 if start_at == "earliest" else 5
    assert starts(world) == {0: expected, 1: expected}


def test_partitions_added_to_a_rebased_topic_join_its_epoch():
    world = a_world(partitions=1)
    world.plan()
    old = world.ledger.checkpoints["iot_data", 0]
    world.ledger.checkpoints["iot_data", 0] = replace(old, epoch=3)
    world.partitions = world.log.partitions = 2
    world.plan()
    assert world.ledger.checkpoints["iot_data", 1].epoch == 3


def test_a_topic_stamped_by_producers_is_refused_before_anything_is_written():
    world = a_world()
    world.log.config["message.timestamp.type"] = "CreateTime"
    with pytest.raises(SchemaMismatchError, match="IOT_ACCEPT_PRODUCER_TIMESTAMPS"):
        world.plan()
    assert starts(world) == {}
    assert len(world.plan(accept_producer_timestamps=True).ingest) == 2


def test_a_topic_that_does_not_exist_is_refused():
    world = a_world()
    with pytest.raises(SchemaMismatchError, match="no such topic"):
        make_plan(world.log, world.ledger, "iot_dat")


def test_a_recreated_topic_is_refused():
    world = a_world()
    world.drain()
    world.log.recreate()
    with pytest.raises(TopicChangedError, match=f"iot rebase --topic-id {world.log.uuid}"):
        world.plan()


def test_records_that_expired_unread_stop_their_partition_and_no_other():
    world = a_world()
    world.plan()
    world.log.delete_before(1, 2)
    for options in ({}, {"offsets": [OffsetRange(0, 0, 5), OffsetRange(1, 0, 5)]}):
        plan = world.plan(**options)
        assert plan.ingest == [OffsetRange(0, 0, 5)]
        (why,) = plan.stopped.values()
        assert isinstance(why, OffsetsExpiredError)
        assert re.search(r"iot_data\[1\].*up to 2 records", str(why))
    assert world.plan(partitions=[0]).stopped == {}


def test_a_partition_whose_leader_does_not_answer_is_left_out_and_no_other():
    world = a_world(partitions=3)
    world.plan()
    world.log.silent = {1}
    asked = [OffsetRange(p, 0, 5) for p in range(3)]
    for options in ({}, {"offsets": asked}, {"offsets": asked[::2], "is_planned": True}):
        plan = world.plan(**options)
        assert plan.ingest == [OffsetRange(0, 0, 5), OffsetRange(2, 0, 5)]
        assert isinstance(plan.stopped[1], KafkaUnavailableError)
    assert world.plan(partitions=[0, 2]).stopped == {}
    only = world.plan(partitions=[1])
    assert (only.ingest, [*only.stopped]) == ([], [1])


def test_first_contact_is_with_all_partitions_or_none():
    world = a_world()
    world.log.silent = {1}
    with pytest.raises(KafkaUnavailableError):
        world.plan()
    assert world.ledger.checkpoints == {}


def test_a_leader_that_is_cut_off_from_the_others_is_not_believed_that_the_log_was_cut_back():
    world = a_world()
    world.drain()
    world.log.cut(1, 2)
    assert isinstance(world.plan().stopped[1], TopicChangedError)
    world.log.disputed = {1}
    assert isinstance(world.plan().stopped[1], KafkaUnavailableError)


def test_a_checkpoint_of_another_incarnation_stops_its_partition_and_no_other():
    world = a_world()
    world.plan()
    half_rebased = replace(world.ledger.checkpoints["iot_data", 0], topic_id="the old one")
    world.ledger.checkpoints["iot_data", 0] = half_rebased
    plan = world.plan()
    assert plan.ingest == [OffsetRange(1, 0, 5)]
    assert isinstance(plan.stopped[0], TopicChangedError)
    with pytest.raises(TopicChangedError):
        read_states(world.log, world.ledger, "iot_data")


def test_a_budget_is_shared_by_the_partitions():
    assert a_world().plan(max_records=4).ingest == [OffsetRange(0, 0, 2), OffsetRange(1, 0, 2)]


def test_partitions_may_be_chosen_and_must_exist():
    world = a_world()
    assert world.plan(partitions=[1]).ingest == [OffsetRange(1, 0, 5)]
    with pytest.raises(PlanError, match="no partition 7; it has 0 to 1"):
        world.plan(partitions=[0, 7])


def test_partitions_may_be_chosen_by_a_rule_that_knows_not_how_many_there_are():
    class Odd:
        def __contains__(self, partition: object) -> bool:
            return isinstance(partition, int) and partition % 2 == 1

    world = a_world(partitions=4)
    assert [item.partition for item in world.plan(partitions=Odd()).ingest] == [1, 3]
    assert a_world(partitions=1).plan(partitions=Odd()).ingest == []


def test_ranges_asked_for_are_ingested_from_the_checkpoint_on_and_replayed_below():
    world = a_world(partitions=1)
    world.drain(world.plan(max_records=3))
    plan = world.plan(offsets=[OffsetRange(0, 1, 5)])
    assert (plan.replay, plan.ingest) == ([OffsetRange(0, 1, 3)], [OffsetRange(0, 3, 5)])


def test_lag_is_what_all_partitions_still_have():
    world = a_world()
    assert world.plan(max_records=1).lag == 10
    world.drain()
    assert world.plan().lag == 0


def test_looking_changes_nothing():
    world = a_world()
    info, checkpoints, states = read_states(world.log, world.ledger, "iot_data")
    assert (info.partitions, checkpoints, starts(world)) == (2, {}, {})
    assert [state.lag for state in states] == [5, 5]


def test_a_plan_that_cannot_be_made_changes_nothing_that_the_next_cannot_go_on_from():
    for at in range(1, 20):
        world = a_world()
        faults = Faults(at, How.NOT_APPLIED)
        ports = world.ports(faults)
        try:
            make_plan(ports.log, ports.ledger, "iot_data")
        except TransientError:
            assert len(faults.calls) == at
        world.drain()
        world.check_all_is_drained()


def test_a_keyspace_of_another_topic_gets_no_checkpoint():
    world = World()
    world.ledger.topic_of_keyspace = "another"
    with pytest.raises(ConfigurationError, match="belongs to topic another, not to iot_data"):
        world.plan()
    assert world.ledger.checkpoints == {}
    world.ledger.topic_of_keyspace = "iot_data"
    world.plan()
    assert set(world.ledger.checkpoints) == {("iot_data", 0)}
