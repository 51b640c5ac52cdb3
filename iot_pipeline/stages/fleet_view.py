"""Gather what pictures of the fleet show, within a given time; changes nothing."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from iot_pipeline.core.fleet_day import Board, choose_devices
from iot_pipeline.core.fleet_view import FleetView, put_together
from iot_pipeline.core.flow import measure_flow
from iot_pipeline.core.lateness import sum_up
from iot_pipeline.core.quality_limits import QualityLimits
from iot_pipeline.core.readings import ReadingRules
from iot_pipeline.stages.devices import DeviceDays, find_devices, look_at
from iot_pipeline.stages.fleet_day import SlotCounts, count_cells
from iot_pipeline.stages.lateness import sample_arrivals
from iot_pipeline.stages.ports import LedgerStore, RecordLogReader, RowReader

# Rows of the heat map; a screen shows no more.
MOST_DEVICES = 40


@dataclass(frozen=True, slots=True)
class Look:
    """How closely to look.

    `most_devices` are asked for their newest rows; `counting_seconds` is for the board of hours,
    `sample_spots` of each Kafka partition are looked at for lateness,
    in `sample_seconds`.
    """

    most_devices: int
    counting_seconds: float
    sample_spots: int
    sample_seconds: float
    flow_hours: float
    look_back_days: int = 1


# A glance fits into an ingest run, a study takes the seconds it needs.
GLANCE = Look(MOST_DEVICES, 0.4, 2, 0.3, 2.0)
STUDY = Look(1_000_000, 20.0, 20, 10.0, 24.0, 7)


class ViewPorts(Protocol):
    """What is asked."""

    @property
    def log(self) -> RecordLogReader: ...
    @property
    def ledger(self) -> LedgerStore: ...
    @property
    def rows(self) -> RowReader: ...
    @property
    def device_days(self) -> DeviceDays: ...
    @property
    def slots(self) -> SlotCounts: ...


def view_fleet(
    ports: ViewPorts,
    topic: str,
    rules: ReadingRules,
    board: Board,
    now: datetime,
    look: Look,
    limits: QualityLimits,
    lag_seconds: float,
) -> FleetView:
    """The fleet as of now; `board` gets the cells that were counted.

    `lag_seconds` is how far ingestion is behind: silence since then is nobody's fault.

    Raises:
        TransientError: Kafka or Cassandra did not answer.
        SchemaMismatchError: a topic or table is not there.
    """
    now_ms = round(now.timestamp() * 1000)
    known = find_devices(ports.device_days, now, look.look_back_days)
    chosen = choose_devices(known, look.most_devices)
    as_of = now - timedelta(seconds=lag_seconds)
    devices = look_at(
        ports.device_days, ports.rows, {n: known[n] for n in chosen}, now, as_of, limits
    )
    on_board = choose_devices(chosen, MOST_DEVICES)
    cells = count_cells(
        ports.slots, board.by_place(), on_board, now_ms, budget_seconds=look.counting_seconds
    )
    board.cells = list(cells.values())
    since = now - timedelta(hours=look.flow_hours)
    entries = ports.ledger.read_entries(topic, range(ports.log.describe(topic).partitions), since)
    arrivals = sample_arrivals(
        ports.log,
        topic,
        rules,
        now - timedelta(days=1),
        spots=look.sample_spots,
        budget_seconds=look.sample_seconds,
    )
    return put_together(
        now,
        len(known),
        devices,
        cells,
        on_board,
        measure_flow(entries, since, now),
        sum_up(arrivals),
    )
