"""The fingerprint of a checkpoint, on real servers: kept, compared, and what a person does then."""

import uuid

import pytest

from iot_pipeline.core.reading.fingerprints import fingerprint_of
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.stages.reading.log import read_ranges
from iot_pipeline_tests.load import fleet, produce
from iot_pipeline_tests.pipeline import Pipeline

pytestmark = pytest.mark.services


def test_a_log_that_is_not_the_one_that_was_read_stops_its_partition_until_it_is_rebased(
    pipeline: Pipeline,
) -> None:
    name, topic = f"cut_{uuid.uuid4().hex[:8]}", pipeline.topic
    ledger, settings = pipeline.connections.ledger, pipeline.settings
    for partition in (0, 1):
        produce(pipeline.brokers, topic, fleet(f"{name}_{partition}", 1, 50), partition=partition)
    pipeline.drain()
    (records,) = read_ranges(pipeline.connections.log, topic, [OffsetRange(0, 49, 50)], 10.0)
    last = records[0]
    known = fingerprint_of(49, last.produced_ms, last.message_key, last.value)
    assert ledger.read_checkpoints(topic, [0])[0].fingerprint == known
    pipeline.iot("drain")

    # What an unclean election leaves: other records than those that were read, here of 40 to 49.
    pipeline.connections.cassandra.execute(
        f"UPDATE {settings.keyspace}.ingest_ledger SET fingerprint = (49, 1, 2) "
        f"WHERE topic = '{topic}' AND kafka_partition = 0 IF next_offset = 50",
        doing="making the log another one",
    )
    pipeline.connections.cassandra.execute(
        f"DELETE FROM {settings.keyspace}.sensor_data WHERE device_id = '{name}_0_0' "
        "AND day = '2024-12-29' AND timestamp >= 1735444958000",
        doing="taking the rows of the last records away",
    )
    for partition in (0, 1):
        more = fleet(f"{name}_more_{partition}", 1, 7)
        produce(pipeline.brokers, topic, more, partition=partition)
    said = pipeline.iot("drain", exit_code=1)
    assert "the record at offset 49 arrived at" in said
    assert "Offsets 0:40-50 are in doubt" in said
    assert "`iot rebase --at 0:40`" in said
    assert len(pipeline.rows(f"{name}_more_1_0")) == 7
    assert not pipeline.rows(f"{name}_more_0_0")
    assert pipeline.iot("audit", "--json", exit_code=1)["lost_ranges"] == ["0:40-50"]

    assert "begins at 40" in pipeline.iot("rebase", "--at", "0:40")
    pipeline.iot("drain")
    assert len(pipeline.rows(f"{name}_more_0_0")) == 7
    checkpoint = ledger.read_checkpoints(topic, [0])[0]
    assert (checkpoint.epoch, checkpoint.next_offset) == (1, 57)
    assert checkpoint.fingerprint is not None
    assert not pipeline.iot("ledger", "--json")["flaws"]
    assert pipeline.iot("losses", "--json", "--exit-code")["losses"] == []
    assert "nothing needs a rebase" in pipeline.iot("rebase", "--at", "0:40", exit_code=1)
