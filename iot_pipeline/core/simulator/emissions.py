"""One message of a simulation, and the fault that it carries."""

from dataclasses import dataclass

import msgspec

from iot_pipeline.core.reading.decoding import Reason
from iot_pipeline.core.simulator.fault_specs import FaultKind
from iot_pipeline.core.simulator.scenarios import FleetDevice


@dataclass(frozen=True, slots=True)
class Injection:
    """One time that a fault struck one device: a window of it, or one reading where it has none.

    `number` counts the injections of a simulation. `amount` is how far off, in `unit`: the size of
    a spike, of a drift at its end, of a clock's skew; None where the kind has none.
    """

    number: int
    kind: FaultKind
    device_id: str
    amount: float | None = None
    unit: str = ""
    reason: Reason | None = None


class Emission(msgspec.Struct, frozen=True, gc=False):
    """One message, or one that a dropout withheld.

    Both times are microseconds since 1970: of sending, never before that of the emission before,
    and of measuring by a clock that is right. `payload` is None for a tombstone. `injection` says
    which fault it carries.
    """

    send_us: int
    measured_us: int
    device: FleetDevice
    payload: bytes | None
    injection: Injection | None = None

    @property
    def is_withheld(self) -> bool:
        """A dropout's: nothing is sent, and the manifest counts it."""
        return self.injection is not None and self.injection.kind is FaultKind.DROPOUT
