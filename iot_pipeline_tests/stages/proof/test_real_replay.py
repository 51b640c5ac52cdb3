import uuid

import pytest

from iot_pipeline_tests.load import ORIGIN_SECONDS, produce, reading_json

pytestmark = pytest.mark.services


def test_a_replay_leaves_write_times_and_values_as_they_were_and_restores_what_is_missing(pipeline):
    name = f"replayed_{uuid.uuid4().hex[:8]}"
    # Every reading three times with other values, so that milliseconds hold rivals.
    messages = [
        (name.encode(), reading_json(name, ORIGIN_SECONDS + number // 3, float(number % 50)))
        for number in range(900)
    ]
    produce(pipeline.brokers, pipeline.topic, messages, partition=0)
    pipeline.drain()
    before = pipeline.rows(name)
    assert len(before) == 300

    report = pipeline.iot("replay", "--offsets", "0:100-500", "--json")
    assert pipeline.rows(name) == before
    assert report["read_back"]["missing"] == report["read_back"]["torn"] == 0
    assert report["stored"] + report["superseded"] + report["repeated"] == 400

    # A row taken away behind everybody's back.
    lost = min(before)
    pipeline.connections.cassandra.execute(
        f"DELETE FROM {pipeline.settings.keyspace}.sensor_data USING TIMESTAMP {before[lost][2]} "
        f"WHERE device_id = '{name}' AND day = '2024-12-29' AND timestamp = {lost}",
        doing="removing a row",
    )
    assert lost not in pipeline.rows(name)
    # A tombstone wins over a row of the same write time: it cannot come back, and that is said.
    report = pipeline.iot("replay", "--offsets", "0:0-9", "--json", exit_code=1)
    assert report["read_back"]["missing"] == 1
    assert any(str(lost) in line for line in report["not_taken"])


def test_a_drain_below_the_checkpoint_is_a_replay_and_says_so(pipeline):
    name = f"replayed_{uuid.uuid4().hex[:8]}"
    messages = [(None, reading_json(name, ORIGIN_SECONDS + n)) for n in range(100)]
    produce(pipeline.brokers, pipeline.topic, messages, partition=0)
    run_id = pipeline.iot("drain", "--json")["run_id"]
    before = pipeline.rows(name)
    pipeline.connections.cassandra.execute(
        f"TRUNCATE {pipeline.settings.keyspace}.sensor_data", doing="emptying the table"
    )
    said = pipeline.iot("drain", "--offsets", "0:0-60")
    assert "0:0-60: below the checkpoint, so this is a replay" in said
    assert "no checkpoint moved" in said
    assert len(pipeline.rows(name)) == 60
    report = pipeline.iot("replay", "--run", run_id, "--json")
    assert report["ranges"] == ["0:0-100"]
    assert pipeline.rows(name) == before
    assert pipeline.connections.ledger.read_checkpoints(pipeline.topic, [0])[0].next_offset == 100
