"""A `DeviceStateStore` in memory."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from iot_pipeline.core.fleet.kept_states import decode, form_of
from iot_pipeline.core.fleet.state import DeviceState
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.errors import PipelineError
from iot_pipeline_tests.stages.fakes import FakeAnswer, FakePending, answer


@dataclass(slots=True)
class FakeDeviceStates:
    """`failure` is raised by every question while it is set; `written` counts states."""

    states: dict[str, bytes] = field(default_factory=dict)
    fleet: bytes | None = None
    failure: PipelineError | None = None
    written: int = 0
    part: int = 50

    def read_fleet(self) -> bytes | None:
        self._fail()
        return self.fleet

    def read_some(self, most: int) -> tuple[dict[str, bytes], bool]:
        self._fail()
        names = sorted(self.states)[: 2 * most]
        return {name: self.states[name] for name in names}, len(names) == len(self.states)

    def start_read(self, device_id: str) -> FakeAnswer[bytes | None]:
        self._fail()
        return answer(self.states.get(device_id))

    def write_fleet(self, content: bytes, live_seconds: int, within_seconds: float) -> None:
        self._fail()
        self.fleet = content

    def in_batches(self, states: Mapping[str, bytes]) -> Iterator[dict[str, bytes]]:
        names = list(states)
        for at in range(0, len(names), self.part):
            yield {name: states[name] for name in names[at : at + self.part]}

    def start_write(self, part: Mapping[str, bytes], live_seconds: int) -> FakePending:
        self._fail()
        self.states.update(part)
        self.written += len(part)
        return FakePending()

    def wait(self, timeout_seconds: float) -> None:
        pass

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure


def kept_state(content: bytes) -> DeviceState | None:
    """The state of a device, of a pipeline with the default quantities."""
    return decode(DeviceState, content, form_of(QUANTITIES))
