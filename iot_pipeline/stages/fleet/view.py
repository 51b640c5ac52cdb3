"""Gather what pictures of the fleet show, beyond what is known of it; changes nothing."""

from collections import defaultdict
from datetime import datetime, timedelta
from typing import Protocol

from iot_pipeline.core.fleet.problems import Fleet
from iot_pipeline.core.fleet.view import (
    MOST_LINES,
    FleetView,
    Slot,
    choose_rows,
    choose_slot_ms,
    put_together,
)
from iot_pipeline.core.ledger.flow import measure_flow
from iot_pipeline.core.reading.spans import spans_between
from iot_pipeline.core.times import MS_PER_DAY
from iot_pipeline.stages.ports.ledger import LedgerStore
from iot_pipeline.stages.ports.log import RecordLog
from iot_pipeline.stages.ports.readings import SensorData
from iot_pipeline.stages.requests import ask_all


class ViewPorts(Protocol):
    @property
    def log(self) -> RecordLog: ...
    @property
    def ledger(self) -> LedgerStore: ...
    @property
    def rows(self) -> SensorData: ...


def view_fleet(ports: ViewPorts, topic: str, fleet: Fleet, now: datetime) -> FleetView:
    """The fleet with its last day: two questions for each device that has a line.

    Raises:
        TransientError: Kafka or Cassandra did not answer.
        SchemaMismatchError: a topic or table is not there.
    """
    since = now - timedelta(days=1)
    partitions = range(ports.log.describe(topic).partitions)
    flow = measure_flow(ports.ledger.read_entries(topic, partitions, since), since, now)
    now_ms = fleet.as_of_ms
    spans = [
        span
        for name in choose_rows(fleet, MOST_LINES)
        for span in spans_between(name, now_ms - MS_PER_DAY, now_ms + 1)
    ]
    slot_ms = choose_slot_ms(fleet)
    slots: defaultdict[str, list[Slot]] = defaultdict(list)
    for span, answer in ask_all(
        spans,
        lambda span: ports.rows.start_means(span, slot_ms),
        ports.rows.wait,
    ):
        slots[span.device_id].extend((begin, mean) for begin, _, mean in answer.found)
    return put_together(now, fleet, flow, slots, slot_ms)
