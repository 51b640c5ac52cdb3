"""Whether the devices of a fleet began to send a quantity in another unit.

Each device is compared with itself, so that neither weather nor another mix of devices looks like
one: its value now is what one conversion makes of its value then, and the same one for most.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

# The values of each device in some messages.
ByDevice = Mapping[str, Sequence[float]]

# Of fewer devices the same conversion may be chance.
LEAST_DEVICES = 5
_LEAST_SHARE = 0.5
# Values change during the day: one in the new unit is within a factor of 1.25 of what is expected,
# one in the old unit within a factor of 2; with a shift, within 20 % of the whole change.
_NEW_FACTOR, _OLD_FACTOR = 1.25, 2.0
_OFF = 0.2


@dataclass(frozen=True, slots=True)
class Conversion:
    """A value in the new unit is `scale` times the old one plus `shift`.

    `unit` is the old one, which is the declared one; empty: any.
    """

    words: str
    scale: float
    shift: float = 0.0
    unit: str = ""

    def __call__(self, value: float) -> float:
        return value * self.scale + self.shift


# Factors as small as the change of a day are left out (1.6, from miles to km).
CONVERSIONS = (
    *(Conversion(f"{factor:,} times as much", factor) for factor in (10, 100, 1000)),
    *(Conversion(f"1/{factor:,} of it", 1 / factor) for factor in (10, 100, 1000)),
    Conversion("°F in the place of °C", 1.8, 32, "°C"),
    Conversion("K in the place of °C", 1, 273.15, "°C"),
    Conversion("°C in the place of °F", 1 / 1.8, -32 / 1.8, "°F"),
    Conversion("°C in the place of K", 1, -273.15, "K"),
    Conversion("km/h in the place of m/s", 3.6, unit="m/s"),
    Conversion("m/s in the place of km/h", 1 / 3.6, unit="km/h"),
)


@dataclass(frozen=True, slots=True)
class UnitChange:
    """A conversion that fits: in `devices` of `of` that were seen both times; their medians."""

    conversion: Conversion
    devices: Sequence[str]
    of: int
    before: float
    after: float


def find_change(before: ByDevice, after: ByDevice, unit: str = "") -> UnitChange | None:
    """The conversion that explains most devices, where it explains half of them and five.

    `unit` is the declared one.
    """
    pairs = {
        device: (median(before[device]), median(values))
        for device, values in after.items()
        if values and before.get(device)
    }
    best: tuple[int, float, Conversion, list[str]] | None = None
    for conversion in CONVERSIONS:
        if conversion.unit not in ("", unit):
            continue
        fitting = [device for device, (old, new) in pairs.items() if _fits(conversion, old, new)]
        off = sum(abs(pairs[device][1] - conversion(pairs[device][0])) for device in fitting)
        if fitting and (best is None or (-len(fitting), off) < best[:2]):
            best = -len(fitting), off, conversion, fitting
    if best is None or len(best[3]) < max(LEAST_DEVICES, _LEAST_SHARE * len(pairs)):
        return None
    _, _, conversion, fitting = best
    olds, news = zip(*(pairs[device] for device in fitting), strict=True)
    return UnitChange(conversion, fitting, len(pairs), median(olds), median(news))


def is_after(change: UnitChange, before: ByDevice, seen: ByDevice) -> bool | None:
    """Whether these messages are from after the change, by most of its devices among them.

    None: none of its devices is there, or neither unit fits most of them: the devices changed at
    different times.
    """
    conversion = change.conversion
    news = olds = total = 0
    for device in change.devices:
        if not seen.get(device) or not before.get(device):
            continue
        old, now = median(before[device]), median(seen[device])
        total += 1
        news += _fits(conversion, old, now)
        olds += _is_near(conversion, old, now, old, _OLD_FACTOR)
    if max(news, olds) <= total / 2:
        return None
    return news > olds


def _fits(conversion: Conversion, old: float, new: float) -> bool:
    return _is_near(conversion, old, new, conversion(old), _NEW_FACTOR)


def _is_near(
    conversion: Conversion, old: float, value: float, expected: float, factor: float
) -> bool:
    if conversion.shift:
        return abs(value - expected) <= _OFF * abs(conversion(old) - old)
    return bool(expected) and 1 / factor <= value / expected <= factor
