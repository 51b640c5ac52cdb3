"""Whether an acknowledged write survives, by replicas and by how nodes sync their commit logs."""

import pytest

from iot_pipeline.core.checks.keyspaces import describe_durability

THREE = ("10.0.0.1", "10.0.0.2", "10.0.0.3")
WHY = "three rooms, three power supplies"


def test_nodes_that_sync_before_they_answer_are_durable_with_any_replicas() -> None:
    for replication in (1, 3):
        assert describe_durability({"a": "group", "b": "batch"}, replication)[0]


def test_one_replica_that_syncs_periodically_cannot_be_accepted() -> None:
    is_durable, said = describe_durability({"a": "periodic"}, 1, WHY)
    assert not is_durable
    assert "100 ms" in said
    assert "does not count with one replica" in said


@pytest.mark.parametrize(("replication", "quorum"), [(2, 2), (3, 2), (5, 3)])
def test_with_replicas_it_is_said_how_many_must_die_together(replication: int, quorum: int) -> None:
    is_durable, said = describe_durability(dict.fromkeys(THREE, "periodic"), replication)
    assert not is_durable
    assert f"lost when {quorum} of its nodes die within that time of each other" in said
    assert "IOT_ACCEPT_PERIODIC_COMMITLOG" in said


def test_with_replicas_a_reason_is_accepted_and_told() -> None:
    is_durable, said = describe_durability(dict.fromkeys(THREE, "periodic"), 3, WHY)
    assert is_durable
    assert "lost when 2 of its nodes die" in said
    assert said.endswith(f"Accepted by IOT_ACCEPT_PERIODIC_COMMITLOG: {WHY}")


def test_a_node_that_could_not_be_asked_is_not_accepted() -> None:
    modes = dict.fromkeys(THREE, "periodic") | {"10.0.0.2": "unknown (the node is down)"}
    assert not describe_durability(modes, 3, WHY)[0]


def test_a_node_that_is_down_is_not_called_periodic() -> None:
    modes = dict.fromkeys(THREE, "group") | {"10.0.0.2": "unknown (the node is down)"}
    assert describe_durability(modes, 3) == (
        False,
        "whether acknowledged writes are durable is not known of 10.0.0.2 (the node is down); "
        "every other node syncs before it answers (group)",
    )
    both = modes | {"10.0.0.3": "periodic"}
    is_durable, said = describe_durability(both, 3)
    assert not is_durable
    assert said.startswith("commitlog_sync is periodic on 10.0.0.3: ")
    assert "is not known of 10.0.0.2 (the node is down). Set commitlog_sync" in said
