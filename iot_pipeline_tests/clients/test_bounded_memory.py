"""Every consumer of ours is told how much it may hold: its own limits are for few partitions."""

from collections.abc import Mapping
from typing import Any

import pytest

from iot_pipeline.clients import audit_log, kafka_source
from iot_pipeline.clients.audit_log import KafkaAuditLog
from iot_pipeline.clients.kafka import BOUNDED_MEMORY
from iot_pipeline.clients.kafka_source import KafkaRangeSource
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.settings import Settings


class MadeError(Exception):
    """Instead of a consumer: nothing is read here."""


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    told: dict[str, Any] = {}

    def make(config: Mapping[str, Any], **_: object) -> None:
        told.update(config)
        raise MadeError

    monkeypatch.setattr(kafka_source, "Consumer", make)
    monkeypatch.setattr(audit_log, "Consumer", make)
    return told


def test_what_reads_ranges_and_what_audits_them_hold_no_more_than_is_said_once(
    told: dict[str, Any],
) -> None:
    with pytest.raises(MadeError):
        KafkaRangeSource({}, "t", [OffsetRange(0, 0, 1)])
    assert BOUNDED_MEMORY.items() <= told.items()
    told.clear()
    with pytest.raises(MadeError):
        list(KafkaAuditLog(Settings.from_env({})).read("t", [OffsetRange(0, 0, 1)]))
    assert BOUNDED_MEMORY.items() <= told.items()
