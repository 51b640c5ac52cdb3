"""A scenario's readings as a run sees them pass: micro-batches by the second, and the truth."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources

from iot_pipeline.core.reading.declared_times import timestamp_ms
from iot_pipeline.core.reading.decoding import ReadingDecoder
from iot_pipeline.core.reading.messages import Reading, ReadingRules
from iot_pipeline.core.reading.write_times import RowsByTime, write_time_us
from iot_pipeline.core.simulator.fault_specs import FaultKind
from iot_pipeline.core.simulator.manifest import FaultTruth, ManifestRecorder
from iot_pipeline.core.simulator.scenario_file import parse_scenario
from iot_pipeline.core.simulator.scenario_fleet import ScenarioFleet
from iot_pipeline.core.simulator.scenarios import Scenario
from iot_pipeline.core.times import MS_PER_DAY

# Monday 2026-03-02 00:00 UTC.
START_MS = 1_772_409_600_000
_NETWORK_MS = 40
Groups = dict[tuple[str, int], RowsByTime]


def shipped(name: str) -> Scenario:
    """A scenario that comes with the package."""
    file = resources.files("iot_pipeline") / "scenarios" / f"{name}.yaml"
    return parse_scenario(file.read_text(), name)


@dataclass
class Passing:
    """The readings of a scenario in the order in which they arrive, and every fault of it."""

    scenario: Scenario
    minutes: float
    seed: int = 1
    start_ms: int = START_MS

    def __post_init__(self) -> None:
        start_us = self.start_ms * 1000
        fleet = ScenarioFleet(
            self.scenario,
            seed=self.seed,
            start_us=start_us,
            end_us=start_us + int(self.minutes * 60e6),
        )
        self.recorder = ManifestRecorder(fleet.devices)
        self.fleet = fleet

    def batches(self, every_ms: int = 1_000) -> Iterator[tuple[int, Groups]]:
        """(now, the rows that arrived since the batch before), also when there are none."""
        decode = ReadingDecoder(ReadingRules()).decode
        groups: Groups = {}
        until = self.start_ms + every_ms
        for offset, emission in enumerate(self.fleet.emissions()):
            if emission.is_withheld:
                self.recorder.withhold(emission)
                continue
            self.recorder.acknowledge(emission, 0, offset)
            arrived = emission.send_us // 1000 + _NETWORK_MS
            while arrived >= until:
                yield until, groups
                groups, until = {}, until + every_ms
            reading = decode(emission.payload)
            if isinstance(reading, Reading):
                ms = timestamp_ms(reading.timestamp)
                group = groups.setdefault((reading.device_id, ms // MS_PER_DAY), {})
                values = (reading.temperature, reading.humidity)
                group[ms] = (write_time_us(arrived, offset, 0), offset, 0, *values)
        yield until, groups

    def faults(self, *kinds: FaultKind) -> dict[str, list[FaultTruth]]:
        """device -> its faults of these kinds, so far, by time."""
        found: defaultdict[str, list[FaultTruth]] = defaultdict(list)
        for fault in self.recorder.faults():
            if fault.kind in kinds:
                found[fault.device_id].append(fault)
        return dict(found)
