"""Which faults a scenario may ask for: their kinds, which devices they hit, and when."""

import enum
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from iot_pipeline.core.reading.messages import Reason
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.core.times import Duration, Shift


class FaultKind(enum.StrEnum):
    """What can go wrong with a device. The names are those of scenario files and manifests."""

    DROPOUT = "dropout"
    STUCK = "stuck"
    SPIKE = "spike"
    DRIFT = "drift"
    CLOCK_SKEW = "clock_skew"
    LATE = "late"
    OUT_OF_ORDER = "out_of_order"
    DUPLICATE = "duplicate"
    CONFLICTING_DUPLICATE = "conflicting_duplicate"
    MALFORMED = "malformed"


# These last: without an end they would be the device's nature, not a fault of it.
LASTING_KINDS = frozenset(
    {FaultKind.DROPOUT, FaultKind.STUCK, FaultKind.DRIFT, FaultKind.CLOCK_SKEW}
)
# What a payload alone can provoke: a reading that Cassandra refuses passed every rule of ours.
# Of a format with a schema, `not_json` is a message cut in two (`MessageWriter.reason_of`).
_NOT_SENT = (Reason.REJECTED_BY_CASSANDRA, Reason.UNDECODABLE)
MALFORMED_REASONS = tuple(reason for reason in Reason if reason not in _NOT_SENT)
if TYPE_CHECKING:
    MalformedReason = str
else:
    MalformedReason = Literal[tuple(reason.value for reason in MALFORMED_REASONS)]
Share = Annotated[
    float,
    Meta(gt=0, le=1, description="The share of readings that are hit while the fault is active."),
]


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which devices a fault hits, and when: `at` a time and `every` span after, or `per_hour`.

    Without either it is active all the time, and `share` says how many readings it hits. A fault
    that is active `at` some time without `for` hits one reading.
    """

    devices: Annotated[
        list[str],
        Meta(description="Device ids, groups or places; * stands for anything. Empty: all."),
    ] = []
    pick: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="How many of these devices, chosen by the seed. Default: all."),
    ] = None
    at: Annotated[Duration | None, Meta(description="When it begins, counted from the start.")] = (
        None
    )
    lasts: Annotated[Duration | None, Meta(description="How long it lasts.")] = msgspec.field(
        name="for", default=None
    )
    every: Annotated[
        Duration | None, Meta(description="With `at`: how long until it begins again.")
    ] = None
    per_hour: Annotated[
        Annotated[float, Meta(gt=0, le=3600)] | None,
        Meta(description="Instead of `at`: how often an hour and device it begins."),
    ] = None

    @property
    def kind(self) -> FaultKind:
        return FaultKind(str(self.__struct_config__.tag))


class Dropout(Fault, frozen=True, kw_only=True, tag_field="kind", tag="dropout"):
    """The device is silent: what it measures is never sent."""


class Stuck(Fault, frozen=True, kw_only=True, tag_field="kind", tag="stuck"):
    """The device repeats the values with which the fault began, to the last digit."""


class Spike(Fault, frozen=True, kw_only=True, tag_field="kind", tag="spike"):
    """One value is far off, alone."""

    quantity: Annotated[str, Meta(description="Which declared quantity is off.")] = QUANTITIES[
        0
    ].name
    size: Annotated[
        float, Meta(ge=1, le=100, description="By how much, in its unit; up or down by chance.")
    ] = 25.0
    share: Share = 1.0


class Drift(Fault, frozen=True, kw_only=True, tag_field="kind", tag="drift"):
    """The device goes wrong slowly, in a straight line, and is well again at the end."""

    quantity: Annotated[str, Meta(description="Which declared quantity drifts.")] = QUANTITIES[
        0
    ].name
    size: Annotated[
        float, Meta(ge=-200, le=200, description="How far off it is at the end, in its unit.")
    ] = 30.0


class ClockSkew(Fault, frozen=True, kw_only=True, tag_field="kind", tag="clock_skew"):
    """The device's clock is wrong; what it measures and when it sends is not."""

    skew: Shift = "5m"


class _Delay(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="distribution"):
    pass


class UniformDelay(_Delay, frozen=True, tag="uniform"):
    """Any delay between two, equally likely."""

    min: Annotated[Duration, Meta(description="The shortest delay.")]
    max: Annotated[Duration, Meta(description="The longest delay.")]


class ExponentialDelay(_Delay, frozen=True, tag="exponential"):
    """Short delays often, long ones seldom; none beyond `max`."""

    mean: Annotated[Duration, Meta(description="The average delay, before `max` cuts it.")]
    max: Annotated[Duration, Meta(description="The longest delay.")]


class Late(Fault, frozen=True, kw_only=True, tag_field="kind", tag="late"):
    """Readings are sent some time after they were measured."""

    delay: Annotated[
        UniformDelay | ExponentialDelay, Meta(description="How the delays are spread.")
    ]
    share: Share = 1.0


class OutOfOrder(Fault, frozen=True, kw_only=True, tag_field="kind", tag="out_of_order"):
    """A reading is sent after the one that was measured after it."""

    share: Share = 1.0


class Duplicate(Fault, frozen=True, kw_only=True, tag_field="kind", tag="duplicate"):
    """A reading is sent once more, the same bytes."""

    after: Annotated[Duration, Meta(description="How long after the first.")] = "0s"
    share: Share = 1.0


class ConflictingDuplicate(Duplicate, frozen=True, kw_only=True, tag="conflicting_duplicate"):
    """A reading is sent once more with the same device and time, and other values."""


class Malformed(Fault, frozen=True, kw_only=True, tag_field="kind", tag="malformed"):
    """What is sent cannot be a reading."""

    reasons: Annotated[
        list[MalformedReason],
        Meta(
            description="In turn: why it cannot be one; empty: all of them. rejected_by_cassandra "
            "is no property of a payload, so nothing can be sent to provoke it.",
        ),
    ] = []
    share: Share = 1.0


FaultSpec = (
    Dropout
    | Stuck
    | Spike
    | Drift
    | ClockSkew
    | Late
    | OutOfOrder
    | Duplicate
    | ConflictingDuplicate
    | Malformed
)
