"""What a look at the fleet asks: kept states, newest rows, counted hours, deletions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from iot_pipeline.core.proof.deletions import Deletion
from iot_pipeline.stages.ports import Pending, RowReader


class PendingState(Pending, Protocol):
    """One device's kept state on its way."""

    @property
    def found(self) -> bytes | None:
        """Asked when it is done without an error; None when none is kept."""


class DeviceStateStore(Protocol):
    """States between runs; what is lost is made again from rows."""

    def read_fleet(self) -> bytes | None: ...

    def read_some(self, most: int) -> tuple[dict[str, bytes], bool]:
        """States by device, about twice `most` of them; and whether these are all there are."""

    def start_read(self, device_id: str) -> PendingState: ...

    def write_fleet(self, content: bytes, live_seconds: int, within_seconds: float) -> None:
        """Keep it for so long; raises when that takes longer than it may."""

    def write(
        self, states: Mapping[str, bytes], live_seconds: int, within_seconds: float
    ) -> Iterator[Sequence[str]]:
        """Keep states for so long; the devices whose are kept, by parts, until the time is over."""

    def wait(self, timeout_seconds: float) -> None: ...


class PendingCounts(Pending, Protocol):
    """Counts on their way."""

    @property
    def found(self) -> list[tuple[int, int, int]]:
        """(when the piece begins, readings in it, the first of them); only pieces with any."""


class DeviceHourCounts(Protocol):
    """Which devices there are, and how many readings they have in each piece of a day."""

    def days(self) -> list[int]: ...
    def devices_of(self, day_number: int) -> Sequence[str]: ...
    def start_counts(
        self, device_id: str, day_number: int, first_ms: int, end_ms: int, piece_ms: int
    ) -> PendingCounts: ...
    def wait(self, timeout_seconds: float) -> None: ...


class DeletionLog(Protocol):
    """What was deleted on purpose."""

    def read_deletions(self) -> list[Deletion]: ...


@dataclass(frozen=True, slots=True)
class FleetPorts:
    """Everything a look at the fleet reads, and the one table it writes."""

    states: DeviceStateStore
    rows: RowReader
    hours: DeviceHourCounts
    deletions: DeletionLog
