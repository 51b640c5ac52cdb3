"""The manifest of a simulation: what was really sent, and every fault with its offsets.

It is the truth that checks are tested against: nothing is in it that was only meant to be sent.
"""

from collections import Counter
from dataclasses import asdict
from datetime import datetime

import msgspec

from iot_pipeline.core.reading.messages import Reason
from iot_pipeline.core.simulator.fault_specs import FaultKind
from iot_pipeline.core.simulator.faults import Emission
from iot_pipeline.core.simulator.scenarios import FleetDevice
from iot_pipeline.core.times import moment_of_us

# A record is about 500 bytes in memory and 250 in the file: past this, faults are only counted.
MAX_FAULTS = 100_000
# Offset ranges of all faults together, 100 bytes each.
MAX_OFFSET_RANGES = 500_000
# Kinds whose messages are no new readings: copies, and what cannot be read.
NOT_READINGS = frozenset(
    {FaultKind.DUPLICATE, FaultKind.CONFLICTING_DUPLICATE, FaultKind.MALFORMED}
)


class DeviceTruth(msgspec.Struct, kw_only=True):
    """What one device did.

    `messages` is what Kafka acknowledged, `readings` those of them that are neither a copy nor
    malformed, `withheld` what it measured and a dropout kept from being sent. Times are event
    times by a clock that is right, None when there was none.
    """

    device_id: str
    group: str
    place: str
    interval_seconds: float
    messages: int = 0
    readings: int = 0
    withheld: int = 0
    first_at: datetime | None = None
    last_at: datetime | None = None


class FaultTruth(msgspec.Struct, kw_only=True):
    """One fault that struck one device, and what became of it.

    `first_at` and `last_at` are when the first and the last reading of it were measured, inclusive,
    by a clock that is right. `messages` is how many Kafka acknowledged, in `offsets`: by partition
    ranges [first, last], both inclusive. A dropout has no messages and `withheld` instead. Of
    duplicates these are the copies, not what they repeat. `longest_delay_seconds` is from measuring
    to sending.
    """

    kind: FaultKind
    device_id: str
    first_at: datetime
    last_at: datetime
    messages: int = 0
    withheld: int = 0
    amount: float | None = None
    unit: str = ""
    reason: Reason | None = None
    longest_delay_seconds: float = 0.0
    offsets: dict[int, list[tuple[int, int]]] = {}
    offsets_left_out: int = 0


class Manifest(msgspec.Struct, kw_only=True):
    """What a simulation sent, true at `written_at`; complete when `is_complete`.

    `produced` = `acknowledged` + `failed` + `unconfirmed`, in messages; those unconfirmed may have
    arrived and are counted for no device. `speed` is event time per time, None for as fast as
    could be. `start_at` and `end_at` are the event times it was to cover, end exclusive.
    """

    manifest_id: str
    topic: str
    scenario: str
    seed: int
    speed: float | None
    start_at: datetime
    end_at: datetime
    began_at: datetime
    written_at: datetime
    is_complete: bool
    is_stopped: bool
    produced: int
    acknowledged: int
    failed: int
    unconfirmed: int
    withheld: int
    devices: list[DeviceTruth]
    faults: list[FaultTruth]
    # Past MAX_FAULTS: how many are in no record.
    faults_left_out: int = 0
    run_id: str | None = None

    def count_by_kind(self) -> dict[FaultKind, tuple[int, int, int]]:
        """(faults, devices hit, messages or withheld readings) of each kind there was."""
        faults: Counter[FaultKind] = Counter()
        messages: Counter[FaultKind] = Counter()
        devices: dict[FaultKind, set[str]] = {}
        for fault in self.faults:
            faults[fault.kind] += 1
            messages[fault.kind] += fault.messages + fault.withheld
            devices.setdefault(fault.kind, set()).add(fault.device_id)
        return {
            kind: (faults[kind], len(devices[kind]), messages[kind])
            for kind in FaultKind
            if kind in faults
        }


class _Tally:
    """A device's counts as plain numbers: they change with every message."""

    __slots__ = ("first_us", "last_us", "messages", "readings", "withheld")

    def __init__(self) -> None:
        self.messages = self.readings = self.withheld = 0
        self.first_us, self.last_us = 1 << 62, 0


class ManifestRecorder:
    """Gathers the truth while a simulation runs: what was acknowledged and what was withheld.

    Memory: one entry per device and one per fault up to `MAX_FAULTS`, none per message.
    """

    def __init__(self, devices: list[FleetDevice]) -> None:
        self.withheld = 0
        self._devices = devices
        self._tallies = {device.device_id: _Tally() for device in devices}
        self._faults: dict[int, FaultTruth] = {}
        self._left_out: set[int] = set()
        self._ranges = 0

    def withhold(self, emission: Emission) -> None:
        self.withheld += 1
        self._tallies[emission.device.device_id].withheld += 1
        fault = self._fault_of(emission)
        if fault is not None:
            fault.withheld += 1

    def acknowledge(self, emission: Emission, partition: int, offset: int) -> None:
        """Kafka has this message, at this offset. Messages of a partition come in its order."""
        tally = self._tallies[emission.device.device_id]
        tally.messages += 1
        injection = emission.injection
        if injection is None or injection.kind not in NOT_READINGS:
            tally.readings += 1
            at_us = emission.measured_us
            if at_us < tally.first_us:
                tally.first_us = at_us
            if at_us > tally.last_us:
                tally.last_us = at_us
        if injection is None:
            return
        fault = self._fault_of(emission)
        if fault is None:
            return
        fault.messages += 1
        delay = (emission.send_us - emission.measured_us) / 1e6
        fault.longest_delay_seconds = max(fault.longest_delay_seconds, delay)
        ranges = fault.offsets.setdefault(partition, [])
        if ranges and ranges[-1][1] == offset - 1:
            ranges[-1] = (ranges[-1][0], offset)
        elif self._ranges < MAX_OFFSET_RANGES:
            self._ranges += 1
            ranges.append((offset, offset))
        else:
            fault.offsets_left_out += 1

    def devices(self) -> list[DeviceTruth]:
        """What each device did so far, in the scenario's order."""
        return [
            DeviceTruth(
                device_id=device.device_id,
                group=device.group,
                place=device.place,
                interval_seconds=device.interval_us / 1e6,
                messages=tally.messages,
                readings=tally.readings,
                withheld=tally.withheld,
                first_at=moment_of_us(tally.first_us) if tally.readings else None,
                last_at=moment_of_us(tally.last_us) if tally.readings else None,
            )
            for device in self._devices
            for tally in [self._tallies[device.device_id]]
        ]

    def faults(self) -> list[FaultTruth]:
        """The faults so far, in the order in which they began."""
        return [self._faults[number] for number in sorted(self._faults)]

    @property
    def faults_left_out(self) -> int:
        return len(self._left_out)

    def _fault_of(self, emission: Emission) -> FaultTruth | None:
        injection = emission.injection
        assert injection is not None
        at = moment_of_us(emission.measured_us)
        fault = self._faults.get(injection.number)
        if fault is None:
            if len(self._faults) >= MAX_FAULTS:
                self._left_out.add(injection.number)
                return None
            known = asdict(injection)
            number = known.pop("number")
            fault = self._faults[number] = FaultTruth(first_at=at, last_at=at, **known)
        fault.first_at = min(fault.first_at, at)
        fault.last_at = max(fault.last_at, at)
        return fault
