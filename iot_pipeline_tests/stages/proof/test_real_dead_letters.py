import uuid

import pytest

from iot_pipeline_tests.load import ORIGIN_SECONDS, produce, reading_json

pytestmark = pytest.mark.services


def test_what_a_fixed_rule_accepts_is_stored_as_if_it_had_never_failed(pipeline):
    name = f"letters_{uuid.uuid4().hex[:8]}"
    hot = [(None, reading_json(name, ORIGIN_SECONDS + n, 160.0 + n)) for n in range(5)]
    later = (None, reading_json(name, ORIGIN_SECONDS, 20.0))  # wins over the first of them
    produce(pipeline.brokers, pipeline.topic, [*hot, (None, b"<bad/>"), later], partition=0)
    pipeline.iot("drain")
    stats = pipeline.iot("dead-letters", "stats", "--json")
    assert stats == {
        "letters": 6,
        "by_reason": {"out_of_range": 5, "not_json": 1},
        "recognized": {"it is XML or HTML: send JSON": 1},
        "rejected": 6,
        "not_looked_at": 0,
    }
    (shown,) = pipeline.iot("dead-letters", "show", "0:5", "--json")
    assert (shown["value"], shown["reason"]) == ("<bad/>", "not_json")

    pipeline.env["IOT_TEMPERATURE_MAX"] = "1000"
    first = pipeline.iot("dead-letters", "replay", "--json")
    assert (first["stored"], first["superseded"]) == (4, 1)
    assert first["still_rejected"]["not_json"] == 1
    again = pipeline.iot("dead-letters", "replay", "--json")
    assert (again["stored"], again["present"], again["superseded"]) == (0, 4, 1)
    rows = pipeline.rows(name)
    assert [rows[ms][0] for ms in sorted(rows)] == [20.0, 161.0, 162.0, 163.0, 164.0]
    assert pipeline.iot("dead-letters", "stats", "--json") == stats
    report = pipeline.iot("audit", "--json")
    assert (report["stored"], report["superseded"], report["rejected"]) == (5, 1, 1)
    # Each row names the record that made it.
    made = pipeline.iot("trace", name, str(ORIGIN_SECONDS + 3), "--json")
    assert (made["partition"], made["offset"]) == (0, 3)
