"""The messages of a scenario, in the order in which they are sent.

Everything is a function of scenario, seed, start, end and rules: the same five, the same bytes.
"""

import heapq
import itertools
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, field
from itertools import chain

from msgspec.structs import replace

from iot_pipeline.core.reading.messages import ReadingRules
from iot_pipeline.core.simulator.chance import Chance
from iot_pipeline.core.simulator.fault_specs import Drift, FaultKind, Spike
from iot_pipeline.core.simulator.faults import (
    FOREVER_US,
    GRID_US,
    Emission,
    FaultTrack,
    devices_hit,
    place_of,
)
from iot_pipeline.core.simulator.measuring import Measured, Measuring
from iot_pipeline.core.simulator.messages import MessageWriter
from iot_pipeline.core.simulator.scenarios import FleetDevice, Scenario, make_devices

# Messages that are made at once, at most: two milliseconds of work.
_CHUNK = 2_000


@dataclass(slots=True)
class ScenarioFleet:
    """All messages of a scenario with event times [start_us, end_us), at most `count` of them.

    `rules` are those of ingestion: clean values stay within them, malformed ones do not.

    Guarantees: memory for the devices and for what is delayed, not for what was sent; the event
    times of a device, wrong clocks apart, strictly increase and share no millisecond.
    """

    scenario: Scenario
    _: KW_ONLY
    seed: int
    start_us: int
    end_us: int
    count: int | None = None
    rules: ReadingRules = field(default_factory=ReadingRules)
    devices: list[FleetDevice] = field(init=False)
    _writer: MessageWriter = field(init=False)
    _grid_us: int = field(init=False)

    def __post_init__(self) -> None:
        self.devices = make_devices(self.scenario)
        self._writer = MessageWriter(self.rules)
        for fault in self.scenario.faults:
            if isinstance(fault, Spike | Drift):
                place_of(fault.quantity, self.rules)
        # Only a wrong clock could meet the event time of another reading.
        has_wrong_clocks = any(f.kind is FaultKind.CLOCK_SKEW for f in self.scenario.faults)
        self._grid_us = GRID_US if has_wrong_clocks else 1
        self.start_us += -self.start_us % self._grid_us

    def emissions(self) -> Iterator[Emission]:
        """Every message, by the time of sending; what is late beyond the end is sent at the end."""
        return chain.from_iterable(self.blocks())

    def blocks(self) -> Iterator[list[Emission]]:
        """The same, some at a time: making one more takes two milliseconds at most."""
        left = self.count
        for block in self._all_blocks():
            if left is None:
                yield block
                continue
            yield block[:left]
            left -= len(block)
            if left <= 0:
                return

    def _all_blocks(self) -> Iterator[list[Emission]]:
        measuring = Measuring(
            self.scenario,
            self.devices,
            seed=self.seed,
            start_us=self.start_us,
            end_us=self.end_us,
            grid_us=self._grid_us,
            rules=self.rules,
        )
        troubled = self._troubled()
        delayed = _Delayed(self.end_us)
        for block in measuring.blocks():
            for start in range(0, len(block.at_us), _CHUNK):
                part = block.pick(slice(start, start + _CHUNK))
                clean = self._clean(part)
                yield _with_faults(part, clean, troubled, delayed) if troubled else clean
        yield delayed.until(self.end_us)
        # Nothing came after what is still held: it is in order, and no fault.
        yield [
            replace(some.held, send_us=self.end_us, injection=None)
            for _, some in sorted(troubled.items())
            if some.held is not None
        ]

    def _clean(self, part: Measured) -> list[Emission]:
        devices = [self.devices[index] for index in part.devices.tolist()]
        at_us = part.at_us.tolist()
        payloads = self._writer.write_all(
            [device.device_id for device in devices],
            at_us,
            [column.tolist() for column in part.values],
        )
        return list(map(Emission, at_us, at_us, devices, payloads))

    def _troubled(self) -> dict[int, "_Troubled"]:
        troubled: dict[int, _Troubled] = {}
        numbers = itertools.count()
        for index, fault in enumerate(self.scenario.faults):
            for at in devices_hit(fault, self.devices, Chance(self.seed, "pick", index)):
                device = self.devices[at]
                chance = Chance(self.seed, "fault", index, device.device_id)
                track = FaultTrack(
                    fault, device.device_id, chance, self.start_us, numbers, self.rules
                )
                troubled.setdefault(at, _Troubled(device, self.rules, self._writer)).add(track)
        return troubled


class _Delayed:
    """What is sent some time after it was measured, by the time of sending."""

    def __init__(self, end_us: int) -> None:
        self._end_us = end_us
        self._waiting: list[tuple[int, int, Emission]] = []
        self._numbers = itertools.count()

    def add(self, emission: Emission) -> None:
        """Take one; beyond the scenario's end it is sent at the end."""
        send_us = min(emission.send_us, self._end_us)
        late = replace(emission, send_us=send_us)
        heapq.heappush(self._waiting, (send_us, next(self._numbers), late))

    def until(self, at_us: int) -> list[Emission]:
        due = []
        while self._waiting and self._waiting[0][0] <= at_us:
            due.append(heapq.heappop(self._waiting)[2])
        return due


def _with_faults(
    part: Measured, clean: list[Emission], troubled: dict[int, "_Troubled"], delayed: _Delayed
) -> list[Emission]:
    sent: list[Emission] = []
    values = zip(*(column.tolist() for column in part.values), strict=True)
    for emission, index, measured in zip(clean, part.devices.tolist(), values, strict=True):
        at_us = emission.measured_us
        sent += delayed.until(at_us)
        device = troubled.get(index)
        if device is None or at_us < device.quiet_until_us:
            sent.append(emission)
            continue
        for one in device.misbehave(emission, measured):
            if one.send_us <= at_us:
                sent.append(one)
            else:
                delayed.add(one)
    return sent


@dataclass(slots=True)
class _Troubled:
    """A device with faults: what leaves it for each of its readings.

    Before `quiet_until_us` none of its faults has anything to say. `held` is a reading that waits
    until the next one was sent.
    """

    device: FleetDevice
    rules: ReadingRules
    writer: MessageWriter
    tracks: list[FaultTrack] = field(default_factory=list)
    quiet_until_us: int = FOREVER_US
    held: Emission | None = None

    def add(self, track: FaultTrack) -> None:
        self.tracks.append(track)
        self.quiet_until_us = min(self.quiet_until_us, track.window.from_us)

    def misbehave(self, clean: Emission, values: tuple[float, ...]) -> Iterator[Emission]:
        """What leaves the device for this reading while faults may be active: one at most is.

        The first fault in the scenario's order that hits a reading has it.
        """
        hit = next((track for track in self.tracks if track.hits(clean.measured_us)), None)
        if hit is None:
            yield from self._sent(clean)
        else:
            yield from self._hit(hit, clean, values)
            hit.done()
        # Some track may not have been asked, and be behind: its window then ends too late, never
        # too early.
        self.quiet_until_us = min(track.window.from_us for track in self.tracks)

    def _hit(
        self, track: FaultTrack, clean: Emission, values: tuple[float, ...]
    ) -> Iterator[Emission]:
        kind, at_us = track.kind, clean.measured_us
        if kind is FaultKind.DROPOUT:
            yield replace(clean, payload=None, injection=track.injection())
        elif kind is FaultKind.MALFORMED:
            reason = track.next_reason()
            payload = self.writer.write_wrong(reason, self.device.device_id, at_us, values)
            yield from self._sent(
                replace(
                    clean,
                    payload=payload,
                    injection=track.injection(self.writer.reason_of(reason)),
                )
            )
        elif kind in (FaultKind.DUPLICATE, FaultKind.CONFLICTING_DUPLICATE):
            yield from self._sent(clean)
            copy = self._told(track, clean, at_us, values)
            yield replace(copy, send_us=at_us + track.delay_us())
        elif kind is FaultKind.OUT_OF_ORDER:
            if self.held is None:
                self.held = replace(clean, injection=track.injection())
            else:
                yield from self._sent(clean)
        elif kind is FaultKind.LATE:
            late = replace(clean, injection=track.injection())
            yield replace(late, send_us=at_us + track.delay_us())
        else:
            yield from self._sent(self._told(track, clean, track.claimed_us(at_us), values))

    def _told(
        self, track: FaultTrack, clean: Emission, claimed_us: int, values: tuple[float, ...]
    ) -> Emission:
        told = track.values(clean.measured_us, values)
        payload = self.writer.write(self.device.device_id, claimed_us, told)
        return replace(clean, payload=payload, injection=track.injection())

    def _sent(self, emission: Emission) -> Iterator[Emission]:
        yield emission
        if self.held is not None:
            yield replace(self.held, send_us=emission.send_us)
            self.held = None
