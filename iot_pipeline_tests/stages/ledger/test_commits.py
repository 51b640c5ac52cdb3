"""Commits of unknown outcome: each is decided for certain."""

import copy
from dataclasses import replace

import pytest

from iot_pipeline.core.ledger.chain import Applied, Fenced
from iot_pipeline.errors import (
    CassandraUnavailableError,
    CheckpointWentBackError,
    PermanentError,
)
from iot_pipeline.stages.ingest.progress import DrainProgress
from iot_pipeline.stages.ledger.commits import commit_all
from iot_pipeline_tests.stages.fakes import FAR_ABOVE
from iot_pipeline_tests.stages.faults import FailingLedger, Faults, How
from iot_pipeline_tests.stages.world import CONFIG, T0, World, a_busy_world


def one_commit(world: World):
    """The commit of a whole drain, captured; the ledger is then as before it."""
    before = copy.deepcopy((world.ledger.checkpoints, world.ledger.entries))
    world.drain(config=replace(CONFIG, micro_batch_records=1000))
    world.ledger.checkpoints, world.ledger.entries = before
    return world.ledger.commits[-1]


def test_a_commit_that_took_effect_without_an_answer_is_known_to_be_applied():
    world = World()
    world.write()
    world.plan()
    commit = one_commit(world)
    ledger = world.ports(Faults(1, How.ANSWER_LOST, only="ledger.send_commit")).ledger
    assert list(commit_all(ledger, [commit], 1.0)) == [(commit, Applied.YES)]
    assert world.ledger.checkpoints["iot_data", 0].next_offset == 1


def test_a_commit_without_an_answer_is_known_to_be_applied_even_when_somebody_went_on():
    world = World()
    world.write(at=T0)
    world.plan()
    commit = one_commit(world)
    world.write(at=T0 + 1)
    went_on = Faults(1, How.HOOK, only="ledger.read_state", hook=world.drain)
    lost = Faults(1, How.ANSWER_LOST, only="ledger.send_commit")
    ledger = FailingLedger(world.ports(went_on).ledger, lost)  # type: ignore[arg-type]
    assert list(commit_all(ledger, [commit], 1.0)) == [(commit, Applied.YES)]
    assert world.ledger.checkpoints["iot_data", 0].next_offset == 2
    world.check_the_ledger_adds_up()


def test_a_commit_that_did_nothing_is_sent_again_five_times_at_most():
    # No send is left without a decision: a sixth that is merely sent could
    # move the checkpoint after the run has said that nothing happened.
    world = World()
    world.write()
    world.plan()
    commit = one_commit(world)
    faults = Faults(1, How.NOT_APPLIED, FAR_ABOVE, only="ledger.send_commit")
    with pytest.raises(CassandraUnavailableError, match="sent 6 times"):
        list(commit_all(world.ports(faults).ledger, [commit], 1.0))
    assert len(faults.calls) == 6
    assert world.ledger.checkpoints["iot_data", 0].next_offset == 0


def test_a_commit_whose_last_send_took_effect_is_applied():
    world = World()
    world.write()
    world.plan()
    commit = one_commit(world)
    faults = Faults(1, How.NOT_APPLIED, 5, only="ledger.send_commit")
    assert list(commit_all(world.ports(faults).ledger, [commit], 1.0)) == [(commit, Applied.YES)]


def test_a_fenced_commit_names_the_winner():
    world = World()
    world.write()
    world.plan()
    commit = one_commit(world)
    world.drain()
    (outcome,) = commit_all(world.ledger, [commit], 1.0)
    assert outcome == (commit, Fenced(0, "run-2", 1))


def test_a_commit_that_fails_for_good_does_not_hide_that_the_others_were_applied():
    world = a_busy_world()
    progress = DrainProgress([])
    with pytest.raises(PermanentError):
        world.drain(faults=Faults(1, How.PERMANENT, only="ledger.send_commit"), progress=progress)
    (item,) = progress.ranges
    assert item.partition == 1
    assert world.ledger.checkpoints["iot_data", 1].next_offset == item.end


@pytest.mark.parametrize("found", [None, 3])
def test_a_ledger_that_went_back_stops_the_run_and_says_so(found):
    world = a_busy_world()
    plan = world.plan()
    place = ("iot_data", 0)

    def go_back() -> None:
        old = world.ledger.checkpoints.pop(place)
        if found is not None:
            world.ledger.checkpoints[place] = replace(old, next_offset=min(found, 0))

    world.write(0, at=T0 + 50)
    faults = Faults(3, How.HOOK, only="ledger.send_commit", hook=go_back)
    stopped = world.drain(plan, faults=faults).stopped
    assert [(p, type(why)) for p, why in stopped.items()] == [(0, CheckpointWentBackError)]
    world.check_nothing_is_lost()


def test_a_rebase_meanwhile_stops_the_run_and_what_was_committed_elsewhere_is_known():
    world = a_busy_world()
    progress = DrainProgress([])

    def rebase() -> None:
        old = world.ledger.checkpoints["iot_data", 0]
        world.ledger.checkpoints["iot_data", 0] = replace(old, epoch=1, next_offset=0)

    faults = Faults(1, How.HOOK, only="ledger.send_commit", hook=rebase)
    world.drain(faults=faults, progress=progress)
    assert "it was rebased meanwhile" in str(progress.stopped[0])
    assert [item.partition for item in progress.ranges] == [1]
