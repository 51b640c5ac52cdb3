"""The levels that are set are those of the statements, on every way that a row takes."""

import dataclasses
from typing import Any

import pytest
from cassandra import ConsistencyLevel

from iot_pipeline.clients.cassandra import CassandraClient
from iot_pipeline.clients.packed_batch import open_reading_store
from iot_pipeline.clients.schema_store import CassandraSchema
from iot_pipeline.core.reading.row_groups import RowSlice
from iot_pipeline.settings import Settings
from iot_pipeline_tests.load import fleet, produce
from iot_pipeline_tests.pipeline import Pipeline
from iot_pipeline_tests.servers import Services

pytestmark = pytest.mark.services

ROWS: Any = {1_735_444_918_316: (1_735_444_918_316_007, 0, 0, 20.0, 40.0)}


@pytest.mark.parametrize("write_path", ["packed", "driver"])
def test_rows_and_devices_are_written_at_the_level_that_is_set(
    pipeline: Pipeline, write_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = {"IOT_WRITE_CONSISTENCY": "EACH_QUORUM", "IOT_WRITE_PATH": write_path}
    settings = Settings.from_env({**pipeline.env, **env})
    sent = []
    with CassandraClient(settings) as client:
        store = open_reading_store(client, settings)
        execute = client.session.execute_async
        monkeypatch.setattr(
            client.session, "execute_async", lambda s, **how: (sent.append(s), execute(s, **how))[1]
        )
        client.finish(store.send_rows(RowSlice.of({("levels", 20_000): ROWS})))
        client.finish(store.send_devices(20_000, {"levels": 1_735_444_918_316}))
    assert [s.consistency_level for s in sent] == [ConsistencyLevel.EACH_QUORUM] * 2


def test_single_statements_have_the_level_of_what_they_do(pipeline: Pipeline) -> None:
    env = {"IOT_WRITE_CONSISTENCY": "ALL", "IOT_READ_CONSISTENCY": "QUORUM"}
    settings = Settings.from_env({**pipeline.env, **env})
    where = f"{settings.keyspace}.schema_migrations"
    with CassandraClient(settings) as client:
        insert = client.prepare(f"INSERT INTO {where} (version) VALUES (?) IF NOT EXISTS")
        select = client.prepare(f"SELECT name FROM {where} WHERE version = ?")
        profile = client.session.cluster.profile_manager.default
    assert insert.consistency_level == ConsistencyLevel.ALL
    assert select.consistency_level is None
    assert profile.consistency_level == ConsistencyLevel.QUORUM


@pytest.mark.parametrize("level", ["EACH_QUORUM", "ALL"])
def test_a_pipeline_works_at_each_level(pipeline: Pipeline, level: str) -> None:
    produce(pipeline.brokers, pipeline.topic, fleet(level.lower(), 3, 30))
    env = {**pipeline.env, "IOT_WRITE_CONSISTENCY": level}
    strict = dataclasses.replace(pipeline, env=env)
    strict.iot("setup")
    assert "30 offsets = 30 stored" in strict.iot("drain")
    assert "all 30 offsets are proven" in strict.iot("audit", "--all")


def test_a_datacenter_that_is_not_there_is_refused_before_anything_is_made(
    pipeline: Pipeline,
) -> None:
    keyspace = f"{pipeline.settings.keyspace}_dc"
    env = {"IOT_KEYSPACE": keyspace, "IOT_KEYSPACE_REPLICATION": "datacenter1:1,dc9:3"}
    elsewhere = dataclasses.replace(pipeline, env={**pipeline.env, **env})
    said = elsewhere.iot("setup", exit_code=2)
    assert "IOT_KEYSPACE_REPLICATION names dc9; the datacenters are datacenter1" in said


def test_a_keyspace_is_replicated_by_datacenter(pipeline: Pipeline) -> None:
    keyspace = f"{pipeline.settings.keyspace}_by"
    env = {"IOT_KEYSPACE": keyspace, "IOT_KEYSPACE_REPLICATION": "datacenter1:1"}
    elsewhere = dataclasses.replace(pipeline, env={**pipeline.env, **env})
    try:
        elsewhere.iot("setup")
        (row,) = pipeline.connections.cassandra.execute(
            f"SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = '{keyspace}'",
            doing="testing",
        )
        assert row.replication["datacenter1"] == "1"
    finally:
        pipeline.connections.cassandra.execute(
            f"DROP KEYSPACE IF EXISTS {keyspace}", doing="testing", timeout_seconds=60
        )


def test_a_node_that_says_nothing_is_left_soon_where_there_are_others_and_else_waited_for(
    pipeline: Pipeline,
) -> None:
    names = {"contact_points": (*pipeline.settings.contact_points, "localhost")}
    with CassandraClient(pipeline.settings.model_copy(update=names)) as client:
        cluster = client.session.cluster
        # Just before the first look it may have said something: asked at the second one.
        assert 2 * cluster.idle_heartbeat_interval + cluster.idle_heartbeat_timeout <= 5
    with CassandraClient(pipeline.settings) as alone:
        assert alone.session.cluster.idle_heartbeat_timeout >= 10


def test_the_driver_knows_the_replicas_of_a_row_and_reads_no_table_of_the_cluster(
    services: Services, pipeline: Pipeline
) -> None:
    new = Settings.from_env(services.environment())
    with CassandraClient(pipeline.settings) as client, CassandraClient(new) as maker:
        metadata, of_new = (one.session.cluster.metadata for one in (client, maker))
        assert [*metadata.keyspaces] == [pipeline.settings.keyspace]
        assert metadata.keyspaces[pipeline.settings.keyspace].tables == {}
        assert len(metadata.get_replicas(pipeline.settings.keyspace, b"any key")) == 1
        assert [*of_new.keyspaces] == []
        CassandraSchema(maker).create_keyspace({"datacenter1": 1})
        assert len(of_new.get_replicas(new.keyspace, b"any key")) == 1
