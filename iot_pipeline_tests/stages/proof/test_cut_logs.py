"""A log that was cut back and has grown again under the same UUID: noticed before it is read."""

from contextlib import suppress

import pytest

from iot_pipeline.core.ledger.chain import Outcome, find_flaws
from iot_pipeline.core.ledger.rebase import parse_target
from iot_pipeline.core.reading.fingerprints import fingerprint_of
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.errors import PermanentError, PlanError, TopicChangedError, TransientError
from iot_pipeline.stages.ports.ledger import Run
from iot_pipeline.stages.proof.rebase import rebase
from iot_pipeline.stages.proof.replay import plan_replay, replay
from iot_pipeline_tests.stages.fakes import writer_id
from iot_pipeline_tests.stages.faults import Faults, How
from iot_pipeline_tests.stages.world import CONFIG, T0, World

PERSON = Run("person", writer_id(90))


def a_world(records: int = 20, partitions: int = 2) -> World:
    world = World(partitions=partitions)
    for step in range(records):
        for p in range(partitions):
            world.write(p, at=T0 + step)
            world.log.tick()
    world.ingest()
    return world


def grow_again(world: World, partition: int, keep: int, records: int) -> None:
    """The log loses its end from `keep` on, and gets other readings."""
    world.log.cut(partition, keep)
    world.log.tick(5_000)
    for step in range(records):
        world.write(partition, device=f"new_{partition}", at=T0 + step)
        world.log.tick()


def refusal(world: World, **request) -> str:
    with pytest.raises(TopicChangedError) as error:
        world.ingest(**request)
    return str(error.value)


def rows_of(world: World, device: str) -> int:
    return sum(name == device for name, _ in world.store.rows())


def test_every_commit_keeps_the_fingerprint_of_its_last_record():
    world = a_world()
    last = world.log.at(0, 19)[1]
    known = fingerprint_of(19, last.produced_ms, last.message_key, last.value)
    assert world.ledger.checkpoints["iot_data", 0].fingerprint == known
    # Holes alone leave it, and so does a loss.
    world.log.append_hole(0)
    world.ingest()
    assert world.ledger.checkpoints["iot_data", 0].next_offset == 21
    assert world.ledger.checkpoints["iot_data", 0].fingerprint == known
    world.write(0, at=T0 + 99)
    world.log.delete_before(0, 22)
    world.ingest(on_expired="record")
    assert world.ledger.checkpoints["iot_data", 0].fingerprint == known


@pytest.mark.parametrize("keep", [0, 1, 12, 19])
@pytest.mark.parametrize("more", [0, 1, 30])
def test_a_log_that_was_cut_stops_its_partition_and_names_what_is_in_doubt(keep, more):
    world = a_world()
    grow_again(world, 0, keep, 20 - keep + more)
    world.write(1, at=T0 + 50)
    said = refusal(world)
    assert f"Offsets 0:{keep}-20 are in doubt" in said
    assert f"`iot rebase --at 0:{keep}`" in said
    assert rows_of(world, "new_0") == 0
    # The other partition was drained all the same.
    assert world.ledger.checkpoints["iot_data", 1].next_offset == 21
    assert world.ledger.checkpoints["iot_data", 0].next_offset == 20

    (move,) = rebase(
        world.log, world.ledger, "iot_data", parse_target([f"0:{keep}"]), PERSON,
        proof=world.proof(),
    )  # fmt: skip
    assert (move.after.epoch, move.skipped) == (1, None)
    world.ingest()
    assert rows_of(world, "new_0") == 20 - keep + more
    entries = world.ledger.read_entries("iot_data", range(2))
    checkpoints = world.ledger.read_checkpoints("iot_data", range(2))
    assert find_flaws(entries, checkpoints.values()) == []
    assert {e.outcome for e in entries} == {Outcome.INGESTED, Outcome.REBASED}
    assert not world.ingest().stopped


def test_what_is_in_doubt_can_be_passed_over_and_is_a_loss_then():
    world = a_world()
    grow_again(world, 0, 12, 30)
    (move,) = rebase(
        world.log, world.ledger, "iot_data", parse_target(["0:latest"]), PERSON,
        proof=world.proof(),
    )  # fmt: skip
    assert move.skipped == OffsetRange(0, 12, 42)


def test_an_intact_log_needs_no_rebase_and_is_read_on():
    world = a_world()
    world.write(0, at=T0 + 50)
    with pytest.raises(PlanError, match="nothing needs a rebase"):
        rebase(
            world.log, world.ledger, "iot_data", parse_target(["0:3"]), PERSON,
            proof=world.proof(),
        )  # fmt: skip
    assert world.ingest().drained.total.stored == 1


def test_holes_between_the_last_record_and_the_checkpoint_must_still_be_holes():
    world = a_world(partitions=1)
    for _ in range(3):
        world.log.append_hole(0)
    world.ingest()
    assert world.ledger.checkpoints["iot_data", 0].next_offset == 23
    grow_again(world, 0, 21, 5)
    said = refusal(world)
    assert "is at offset 21, where there was none" in said
    assert "Offsets 0:20-23 are in doubt" in said


def test_a_record_that_expired_or_was_compacted_says_nothing():
    world = a_world(partitions=1)
    world.log.compact(0, 19)
    world.write(0, at=T0 + 60)
    assert world.ingest().drained.total.stored == 1
    world.log.delete_before(0, 21)
    world.write(0, at=T0 + 61)
    assert world.ingest().drained.total.stored == 1


def test_records_whose_rows_are_newer_or_gone_make_the_doubt_larger_never_smaller():
    world = a_world(partitions=1)
    # Sent again later: the rows of offsets 5 to 9 are of later records now.
    for step in range(5, 10):
        world.write(0, at=T0 + step)
    world.ingest()
    grow_again(world, 0, 20, 9)
    assert "Offsets 0:20-25 are in doubt" in refusal(world)
    grow_again(world, 0, 8, 30)
    assert "Offsets 0:5-25 are in doubt" in refusal(world)


def test_records_that_a_replay_has_written_do_not_hide_those_below_them():
    world = a_world(partitions=1)
    grow_again(world, 0, 12, 8)
    plan = plan_replay(world.log, world.ledger, "iot_data", [OffsetRange(0, 17, 19)]).plan
    replay(plan, world.ports(), world.proof(), PERSON, CONFIG)
    assert rows_of(world, "new_0") == 2
    assert "Offsets 0:12-20 are in doubt" in refusal(world)


def test_what_was_passed_over_behind_the_last_record_is_no_sign_of_a_cut():
    world = a_world(partitions=1)
    for step in range(10):
        world.write(0, device="later", at=T0 + step)
    rebase(
        world.log, world.ledger, "iot_data", parse_target(["0:26"]), PERSON,
        skip_reason="why", proof=world.proof(),
    )  # fmt: skip
    assert world.ingest().drained.total.stored == 4
    rebase_to_end = parse_target(["0:latest"])
    world.write(0, device="later", at=T0 + 20)
    rebase(
        world.log, world.ledger, "iot_data", rebase_to_end, PERSON, skip_reason="why",
        proof=world.proof(),
    )  # fmt: skip
    assert not world.ingest().stopped
    # And when it was ingested after all.
    plan = plan_replay(world.log, world.ledger, "iot_data", [OffsetRange(0, 30, 31)]).plan
    replay(plan, world.ports(), world.proof(), PERSON, CONFIG)
    assert not world.ingest().stopped


def test_a_run_asks_for_it_once_with_one_consumer_for_all_partitions():
    world = a_world(partitions=3)
    opened = world.log.opened
    world.ingest()
    assert world.log.opened - opened == 1, "nothing lags: what was opened is for the fingerprints"
    assert world.log.open_sources == 0


@pytest.mark.parametrize("how", [How.NOT_SENT, How.ANSWER_LOST])
def test_a_rebase_of_a_cut_log_that_fails_at_any_call_is_said_again(how):
    for at in range(1, 9):
        world = a_world(partitions=1)
        grow_again(world, 0, 12, 30)
        target = parse_target(["0:12"])
        ports = world.ports(Faults(at, how))
        proof = world.proof()
        with suppress(PermanentError, TransientError):
            rebase(
                ports.log, ports.ledger, "iot_data", target, PERSON, proof=proof,
                retry_seconds=60.0,
            )  # fmt: skip
        if world.ledger.checkpoints["iot_data", 0].epoch == 0:
            rebase(world.log, world.ledger, "iot_data", target, PERSON, proof=proof)
        world.ingest()
        assert rows_of(world, "new_0") == 30
