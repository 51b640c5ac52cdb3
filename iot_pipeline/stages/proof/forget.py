"""Forget a device: remembered first, removed second, the index last, so that it can be repeated.

    what there is -> receipt (begun) -> readings -> rollups -> kept state -> mended rows
                  -> manifests -> runs at work know it -> the index of days -> receipt (done)

Killed anywhere, the same command goes on where its receipt is. What arrived in Kafka before the
receipt's moment stays forgotten, whatever is replayed or drained later (`core.proof.deletions`,
`stages.ingest.deleted`); what arrives after it is stored as ever.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Protocol, TypeVar

from iot_pipeline.core.proof.deletions import Deletion
from iot_pipeline.core.proof.forgetting import Found, Progress, Receipt
from iot_pipeline.core.proof.read_back import newest_us, write_times_in
from iot_pipeline.core.reading.spans import Place
from iot_pipeline.core.reading.write_times import arrived_ms
from iot_pipeline.core.times import Window, day_number, day_of
from iot_pipeline.stages.ingest.deleted import LOOK_SECONDS
from iot_pipeline.stages.ports.fleet import DeviceTables
from iot_pipeline.stages.ports.proof import Receipts
from iot_pipeline.stages.ports.readings import DeviceDays, ReadingStore, SensorData
from iot_pipeline.stages.ports.rollups import RollupStore
from iot_pipeline.stages.proof.read_back import scan_rows
from iot_pipeline.stages.requests import retry_transient

# A run that is at work has asked for deletions by then, and got the answer.
WAIT_SECONDS = 2 * LOOK_SECONDS + 2.0

_T = TypeVar("_T")


class DeviceFiles(Protocol):
    """Files of this machine that may name a device."""

    def find_manifests(self, device_id: str) -> Sequence[str]: ...

    def strike_out(self, device_id: str) -> None:
        """Take it out of the manifests."""

    def find_others(self, device_id: str) -> Sequence[str]:
        """Files that name it and that are not rewritten: reports, exports, logs."""


@dataclass(frozen=True, slots=True)
class ForgetPorts:
    """Everything that has something of a device."""

    topic: str
    rows: SensorData
    days: DeviceDays
    rollups: RollupStore
    tables: DeviceTables
    receipts: Receipts
    store: ReadingStore
    files: DeviceFiles
    retry_seconds: float


@dataclass(frozen=True, slots=True)
class Left:
    """What there still is, or is again, of what a receipt is about; it promises none."""

    rows: int
    states: int
    manifests: int

    def __bool__(self) -> bool:
        return bool(self.rows or self.states or self.manifests)


def find(ports: ForgetPorts, device_id: str) -> Found:
    """What there is of a device now."""
    days = _days_of(ports, device_id)
    rows, cells = _count(ports, [(device_id, day_number(day)) for day in days], None)
    return Found(
        rows,
        cells,
        len(days),
        _retry(ports, lambda: ports.tables.count_rollups(device_id, _months(ports, days))),
        _retry(ports, lambda: ports.tables.count_states(device_id)),
        _retry(ports, lambda: ports.tables.count_mends(device_id)),
        len(ports.files.find_manifests(device_id)),
    )


def unfinished(ports: ForgetPorts, device_id: str) -> Receipt | None:
    """The receipt of a command that was ended before it was done, if there is one."""
    receipts = _retry(ports, ports.receipts.read_receipts)
    mine = [item for item in receipts if item.device_id == device_id]
    return next((item for item in mine if item.progress is Progress.BEGUN), None)


def forget(
    ports: ForgetPorts,
    device_id: str,
    everything: Window,
    found: Found,
    reason: str,
    forgotten_by: str,
    *,
    wall_clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
    say: Callable[[str], None] = lambda _: None,
) -> Receipt:
    """Remove what there is of a device; an unfinished receipt of it is finished instead.

    Args:
        everything: all times that a reading can have.
        found: what there is, as it was shown.
        wall_clock: seconds since 1970.
        sleep: until runs that are at work know.

    Raises:
        TransientError: Cassandra was away for too long; the same command goes on.
    """
    receipt = unfinished(ports, device_id)
    if receipt is None:
        now = wall_clock()
        receipt = Receipt(
            Deletion(
                device_id,
                round(everything.since.timestamp() * 1000),
                round(everything.until.timestamp() * 1000),
                int(now * 1_000_000),
                reason,
                forgotten_by,
                is_forgotten=True,
            ),
            datetime.fromtimestamp(now, UTC),
            Progress.BEGUN,
            found.rows_by_day,
            found.by_kind(),
            found.cells_by_day,
        )
        _retry(ports, lambda: ports.receipts.keep_receipt(receipt))
    deletion, days = receipt.deletion, _days_of(ports, device_id)
    _delete_rows(ports, deletion, days)
    months = _months(ports, days)
    _retry(ports, lambda: ports.tables.delete_rollups(device_id, months))
    _retry(ports, lambda: ports.tables.delete_state(device_id))
    _retry(ports, lambda: ports.tables.delete_mends(device_id))
    ports.files.strike_out(device_id)
    say(f"waiting {WAIT_SECONDS:g} s, until runs that are at work know of it")
    sleep(WAIT_SECONDS)
    # A run that did not know yet may have written rows of further days.
    days = _days_of(ports, device_id)
    _delete_rows(ports, deletion, days)
    _retry(ports, lambda: ports.tables.delete_state(device_id))
    _retry(ports, lambda: ports.tables.delete_days(device_id, days, deletion.deleted_us))
    _note_again(ports, device_id, days)
    done = replace(receipt, progress=Progress.DONE)
    _retry(ports, lambda: ports.receipts.keep_receipt(done))
    return done


def look(ports: ForgetPorts, receipt: Receipt) -> Left:
    """Whether something is there of what a receipt says is gone."""
    device_id = receipt.device_id
    places = [(device_id, day_number(day)) for day in _days_of(ports, device_id)]
    rows, _ = _count(ports, places, receipt.deletion.deleted_us)
    states = _retry(ports, lambda: ports.tables.count_states(device_id))
    newer = sum(_count(ports, places, None)[0].values()) - sum(rows.values())
    # Of what arrived since there are a state and manifests of their own.
    return Left(
        sum(rows.values()),
        0 if newer else states,
        0 if newer else len(ports.files.find_manifests(device_id)),
    )


def _delete_rows(ports: ForgetPorts, deletion: Deletion, days: Iterable[date]) -> None:
    for day in days:
        _retry(ports, lambda day=day: ports.rows.delete_rows(deletion, day_number(day)))  # type: ignore[misc]


def _note_again(ports: ForgetPorts, device_id: str, days: Sequence[date]) -> None:
    """Put the days back into the index that have rows of what arrived since."""
    places = [(device_id, day_number(day)) for day in days]
    newest: dict[Place, int] = {}
    for place, rows in scan_rows(ports.rows, places, ports.retry_seconds):
        for _, stored in rows:
            ms = arrived_ms(newest_us(stored))
            newest[place] = max(ms, newest.get(place, ms))
    for (name, number), ms in newest.items():
        pending = ports.store.send_devices(number, {name: ms})
        while not pending.done:
            ports.store.wait(0.1)
        if pending.error is not None:
            raise pending.error


def _count(
    ports: ForgetPorts, places: Sequence[Place], until_us: int | None
) -> tuple[dict[date, int], dict[date, int]]:
    """How many rows and cells there are by day, of cells written up to then or of all."""
    rows, cells = Counter[date](), Counter[date]()
    for place, found in scan_rows(ports.rows, places, ports.retry_seconds):
        day = day_of(place[1])
        for _, stored in found:
            times = [us for us in write_times_in(stored) if us is not None]
            old = sum(until_us is None or us <= until_us for us in times)
            if old:
                rows[day] += 1
                cells[day] += old
    return dict(rows), dict(cells)


def _days_of(ports: ForgetPorts, device_id: str) -> list[date]:
    return _retry(ports, lambda: list(ports.days.days_of(device_id)))


def _months(ports: ForgetPorts, days: Iterable[date]) -> list[date]:
    """Those of the days, and of all that were ever rolled up: rollups outlive rows."""
    rolled_up = _retry(ports, lambda: ports.rollups.read_records(ports.topic))
    return sorted({day.replace(day=1) for day in [*days, *rolled_up]})


def _retry(ports: ForgetPorts, call: Callable[[], _T]) -> _T:
    return retry_transient(call, give_up_after_seconds=ports.retry_seconds)
