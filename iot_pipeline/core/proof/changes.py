"""What another declaration would change about a reading that is stored."""

from typing import Any

from iot_pipeline.core.proof.additions import Added
from iot_pipeline.core.reading.by_path import Told
from iot_pipeline.core.reading.declaration import Declaration
from iot_pipeline.core.reading.declared_times import timestamp_ms
from iot_pipeline.core.reading.kept_values import kept_values
from iot_pipeline.core.reading.messages import Ignored, Reading, Rejection
from iot_pipeline.core.times import in_utc, moment_of


def find_change(before: Told, after: Told, then: Declaration, now: Declaration) -> str | None:
    """What changes of the row of one message, in words; None: nothing that was stored.

    A quantity that is told now and was not then is no change, and neither is a message that becomes
    a reading.
    """
    if isinstance(before, Rejection | Ignored):
        return None
    if isinstance(after, Rejection):
        return f"it would be no reading ({after.message})"
    if isinstance(after, Ignored):
        return f"it would be ignored ({after.rule})"
    if before.device_id != after.device_id:
        return f"its device would be {after.device_id}, and is {before.device_id}"
    was, becomes = timestamp_ms(before.timestamp), timestamp_ms(after.timestamp)
    if was != becomes:
        times = [in_utc(moment_of(ms), "milliseconds") for ms in (becomes, was)]
        return f"its time would be {times[0]}, and is {times[1]}"
    new = _kept(after, now)
    for name, value in _kept(before, then).items():
        if (other := new.get(name)) is None:
            return f"its {name} {value} would not be read"
        if other != value:
            return f"its {name} would be {other}, and is {value}"
    return None


def find_added(before: Told, after: Reading, then: Declaration, now: Declaration) -> Added:
    """Of which quantities a message has a value now and had none then."""
    if isinstance(before, Rejection | Ignored):
        return None
    return frozenset(_kept(after, now).keys() - _kept(before, then).keys())


def _kept(reading: Reading, declaration: Declaration) -> dict[str, Any]:
    """The values that a reading's row has, by name."""
    told = [getattr(reading, quantity.name) for quantity in declaration.quantities]
    values = kept_values(told, declaration.quantities)
    return {
        quantity.name: value
        for quantity, value in zip(declaration.quantities, values, strict=True)
        if value is not None
    }
