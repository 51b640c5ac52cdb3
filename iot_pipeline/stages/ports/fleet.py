"""What is kept of devices beside their readings."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Protocol

from iot_pipeline.stages.ports.answers import Answer, Pending


class DeviceTables(Protocol):
    """What there is of one device beside its readings; removing is repeated at will."""

    def count_rollups(self, device_id: str, months: Sequence[date]) -> int: ...

    def count_states(self, device_id: str) -> int: ...

    def count_mends(self, device_id: str) -> int: ...

    def delete_rollups(self, device_id: str, months: Sequence[date]) -> None: ...

    def delete_state(self, device_id: str) -> None: ...

    def delete_mends(self, device_id: str) -> None: ...

    def delete_days(self, device_id: str, days: Sequence[date], until_us: int) -> None:
        """Out of the index, as it was noted up to then."""


class DeviceStateStore(Protocol):
    """States of devices between runs; what is lost is made again from rows."""

    def read_fleet(self) -> bytes | None:
        """What is kept of the whole fleet."""

    def read_some(self, most: int) -> tuple[dict[str, bytes], bool]:
        """States by device, about twice `most` of them; and whether these are all there are."""

    def start_read(self, device_id: str) -> Answer[bytes | None]: ...

    def write_fleet(self, content: bytes, live_seconds: int, within_seconds: float) -> None:
        """Keep it for that long; raises when that takes longer than it may."""

    def in_batches(self, states: Mapping[str, bytes]) -> Iterator[Mapping[str, bytes]]:
        """The same states in parts, each fit for one `start_write`."""

    def start_write(self, part: Mapping[str, bytes], live_seconds: int) -> Pending:
        """Start keeping states, each in the place of an earlier one, for that long."""

    def wait(self, timeout_seconds: float) -> None: ...
