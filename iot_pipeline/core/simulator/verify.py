"""What a simulation really sent beside what the table holds: device by device, or what differs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from iot_pipeline.core.simulator.fault_specs import FaultKind
from iot_pipeline.core.simulator.manifest import DeviceTruth, FaultTruth, Manifest
from iot_pipeline.core.times import Window
from iot_pipeline.core.words import counted

# What Kafka's clock and that of the machine that simulated may differ.
CLOCKS_DIFFER = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class DeviceRows:
    """One device: readings that Kafka acknowledged, and rows of what arrived meanwhile.

    `shared` readings at most may have no row of their own, because its clock was wrong and said the
    millisecond of another one. `is_deleted`: some were deleted on purpose.
    """

    device_id: str
    sent: int
    rows: int
    shared: int = 0
    is_deleted: bool = False

    @property
    def missing(self) -> int:
        return 0 if self.is_deleted else max(0, self.sent - self.shared - self.rows)

    @property
    def too_many(self) -> int:
        return max(0, self.rows - self.sent)


@dataclass(slots=True)
class Verification:
    """What was compared.

    Args:
        unconfirmed: messages that Kafka never acknowledged, and that may have arrived.
        malformed: messages that were to be dead letters, and whose offsets are known.
        letters: how many of them are.
        waiting: offsets that were not ingested yet when it was looked.
    """

    devices: list[DeviceRows] = field(default_factory=list)
    unconfirmed: int = 0
    malformed: int = 0
    letters: int = 0
    waiting: int = 0

    @property
    def differing(self) -> list[DeviceRows]:
        """Devices with rows too few, or too many for what was never acknowledged."""
        is_surplus = sum(item.too_many for item in self.devices) > self.unconfirmed
        return [item for item in self.devices if item.missing or (is_surplus and item.too_many)]

    @property
    def passed(self) -> bool:
        return not self.differing and self.letters >= self.malformed

    def sentences(self) -> list[str]:
        """At least one; PASS only where everything was found."""
        sent = sum(item.sent for item in self.devices)
        rows = sum(item.rows for item in self.devices)
        said = []
        if self.passed:
            found = f"PASS: {counted(len(self.devices), 'device')}, {counted(sent, 'reading')} sent"
            said.append(f"{found}, {rows:,} rows of them, {self.letters:,} dead letters")
        else:
            said.append(
                f"DIFFERS: {len(self.differing):,} of {counted(len(self.devices), 'device')}; "
                f"{sent:,} readings were sent, {rows:,} rows are of them"
            )
        if self.letters < self.malformed:
            said.append(
                f"{self.malformed - self.letters:,} of {self.malformed:,} malformed messages are "
                "no dead letters"
            )
        shared = sum(item.sent - item.rows for item in self.devices if item.shared > 0)
        if self.passed and shared > 0:
            said.append(
                f"{counted(shared, 'reading')} of devices whose clock was wrong have no row of "
                "their own: they say the millisecond of another one"
            )
        deleted = [item for item in self.devices if item.is_deleted]
        if deleted:
            gone = counted(len(deleted), "device")
            said.append(f"not compared: readings of {gone} that were deleted on purpose")
        if self.unconfirmed:
            unsure = counted(self.unconfirmed, "message was", "messages were")
            said.append(f"{unsure} never acknowledged and may have arrived")
        if self.waiting:
            said.append(
                f"{counted(self.waiting, 'offset was', 'offsets were')} not ingested yet when it "
                "was looked: `iot drain`, then verify again"
            )
        elif not self.passed:
            said.append("`iot audit` says what became of each offset")
        return said


def arrived_within(manifest: Manifest) -> tuple[int, int]:
    """The first and the last millisecond of Kafka's clock in which its messages arrived."""
    first, last = manifest.began_at - CLOCKS_DIFFER, manifest.written_at + CLOCKS_DIFFER
    return round(first.timestamp() * 1000), round(last.timestamp() * 1000)


def measured_within(device: DeviceTruth, faults: Sequence[FaultTruth]) -> Window | None:
    """When its readings are by its own clock, right or wrong; None: it sent none."""
    if device.first_at is None or device.last_at is None:
        return None
    skews = [fault.amount or 0.0 for fault in faults if fault.kind is FaultKind.CLOCK_SKEW]
    back, ahead = min([0.0, *skews]), max([0.0, *skews])
    return Window(_moved(device.first_at, back - 1.0), _moved(device.last_at, ahead + 1.0))


def _moved(moment: datetime, seconds: float) -> datetime:
    return moment + timedelta(seconds=seconds)


def compare_device(
    device: DeviceTruth, faults: Sequence[FaultTruth], rows: int, *, is_deleted: bool
) -> DeviceRows:
    """One device's line."""
    shared = sum(fault.messages for fault in faults if fault.kind is FaultKind.CLOCK_SKEW)
    return DeviceRows(device.device_id, device.readings, rows, shared, is_deleted)


def malformed_places(manifest: Manifest) -> set[tuple[int, int]]:
    """(partition, offset) of each message that is to be a dead letter, where that is known."""
    return {
        (partition, offset)
        for fault in manifest.faults
        if fault.kind is FaultKind.MALFORMED
        for partition, ranges in fault.offsets.items()
        for first, last in ranges
        for offset in range(first, last + 1)
    }


def by_device(manifest: Manifest) -> Mapping[str, list[FaultTruth]]:
    """The faults of each device that had some."""
    found: dict[str, list[FaultTruth]] = {}
    for fault in manifest.faults:
        found.setdefault(fault.device_id, []).append(fault)
    return found
