"""Received against expected, per device and hour: counts and cadences in, a verdict out.

Belongs here: how many readings an hour should have, when a device or the whole fleet was simply
not there, and which devices lack too many. Does not belong here: counting rows
(`stages.data_quality`), learning a cadence (`core.cadence`).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import median

from iot_pipeline.core.checks import CheckVerdict, Severity
from iot_pipeline.core.device_table import MOST_ROWS, DeviceTable, as_word
from iot_pipeline.core.quality_limits import QualityLimits
from iot_pipeline.core.quality_words import COMPLETE, MOST_SUSPECTS, Coverage, name_some

HOUR_MS = 3_600_000
# Fewer missing than this is where an hour begins and ends, not a loss.
LEAST_MISSING = 3
# With fewer readings than this expected, one more or less decides.
_LEAST_EXPECTED = 10
# Silence of the whole fleet is looked for in pieces of this length, the finest that still holds
# so many readings of the devices asked.
PIECES_MS = (10_000, 60_000)
_LEAST_IN_PIECE = 5
_SILENT_SHARE = 0.1


@dataclass(slots=True)
class DeviceHours:
    """One device: readings received per hour, and since when it is known to report.

    `counts` has the hours that were counted, by the millisecond they begin at. Readings are
    expected from `begin_ms` on, and before `end_ms`: later ones may still be on their way.
    """

    device_id: str
    cadence_ms: float
    begin_ms: int
    end_ms: int
    counts: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HourShare:
    """What one device lacks in one hour."""

    device_id: str
    hour_ms: int
    received: int
    expected: float

    @property
    def missing(self) -> float:
        return max(0.0, self.expected - self.received)

    def is_incomplete(self, limits: QualityLimits) -> bool:
        """Whether more is missing than the limit, and than edges explain."""
        return (
            self.expected >= _LEAST_EXPECTED
            and self.missing >= LEAST_MISSING
            and self.received < limits.complete_share * self.expected
        )


def hour_of(ms: int) -> int:
    """When the UTC hour of an instant begins."""
    return ms // HOUR_MS * HOUR_MS


def expected_shares(
    devices: Sequence[DeviceHours], silent: Sequence[tuple[int, int]] = ()
) -> list[HourShare]:
    """What each counted hour should hold, as far as it is over and the device was there.

    Args:
        devices: counted hours.
        silent: pieces [begin, end) without a reading of anybody: nothing is expected in them.
    """
    shares = []
    for device in devices:
        for hour, received in device.counts.items():
            begin, end = max(hour, device.begin_ms), min(hour + HOUR_MS, device.end_ms)
            covered = end - begin
            for start, stop in silent:
                covered -= max(0, min(end, stop) - max(begin, start))
            if covered > 0:
                shares.append(
                    HourShare(device.device_id, hour, received, covered / device.cadence_ms)
                )
    return shares


def hours_lacking(shares: Sequence[HourShare], limits: QualityLimits) -> list[int]:
    """Hours in which the device in the middle lacks readings: the fleet itself may have paused."""
    by_hour: defaultdict[int, list[HourShare]] = defaultdict(list)
    for share in shares:
        by_hour[share.hour_ms].append(share)
    return sorted(
        hour
        for hour, members in by_hour.items()
        if median(s.received / s.expected for s in members) < limits.complete_share
    )


def piece_for(cadences_ms: Sequence[float]) -> int | None:
    """How finely silence of these devices can be told; None when they report too seldom."""
    per_ms = sum(1 / cadence for cadence in cadences_ms)
    return next((p for p in PIECES_MS if p * per_ms >= _LEAST_IN_PIECE), None)


def find_silence(
    counts: Mapping[int, int],
    begin_ms: int,
    end_ms: int,
    piece_ms: int,
    per_piece: float,
    share: float,
) -> list[tuple[int, int]]:
    """Pieces in which nobody said anything, and the incomplete ones beside them.

    Args:
        counts: readings of all devices asked, by the millisecond their piece begins at.
        begin_ms: the first instant looked at.
        end_ms: the first one not.
        piece_ms: length of a piece.
        per_piece: readings expected in a whole piece.
        share: a piece beside silence belongs to it when it has less than this share.
    """
    first = begin_ms // piece_ms * piece_ms
    # The last piece may have only begun.
    starts = range(first, end_ms - piece_ms + 1, piece_ms)
    silent = {at for at in starts if counts.get(at, 0) < _SILENT_SHARE * per_piece}
    # Where the fleet stops and starts again, a piece is only partly silent.
    beside = {
        at
        for at in starts
        if at not in silent
        and (at - piece_ms in silent or at + piece_ms in silent)
        and counts.get(at, 0) < share * per_piece
    }
    return [(at, at + piece_ms) for at in sorted(silent | beside)]


def judge_complete(
    shares: Sequence[HourShare],
    limits: QualityLimits,
    coverage: Coverage,
    silent: Sequence[tuple[int, int]] = (),
) -> CheckVerdict:
    """Which devices lack readings, in which hour; `silent` as for `expected_shares`."""
    judged = [share for share in shares if share.expected >= _LEAST_EXPECTED]
    lacking = [share for share in judged if share.is_incomplete(limits)]
    expected = sum(share.expected for share in judged)
    received = sum(min(share.received, share.expected) for share in judged)
    paused_ms = sum(stop - start for start, stop in silent)
    by_device: defaultdict[str, list[HourShare]] = defaultdict(list)
    for share in lacking:
        by_device[share.device_id].append(share)
    numbers: dict[str, int | float] = {
        **coverage.numbers(),
        "devices_incomplete": len(by_device),
        "device_hours": len(judged),
        "device_hours_incomplete": len(lacking),
        "completeness": round(received / expected, 4) if expected else 1.0,
        "readings_missing": round(sum(share.missing for share in lacking)),
        "fleet_paused_seconds": paused_ms / 1000,
    }
    remark = coverage.remark
    if paused_ms:
        remark += (
            f" For {paused_ms / 60_000:,.1f} minutes nobody sent anything: nothing is expected of "
            "those (devices_are_reporting was red then)."
        )
    if not judged:
        return CheckVerdict(
            COMPLETE,
            True,
            Severity.WARN,
            f"Not enough history yet: no device has an hour with {_LEAST_EXPECTED} expected "
            f"readings.{remark}",
            numbers,
        )
    if not lacking:
        return CheckVerdict(
            COMPLETE,
            True,
            Severity.WARN,
            f"{received / expected:.1%} of the readings expected in {len(judged):,} hours of "
            f"devices are there; each has at least {limits.complete_share:.0%}.{remark}",
            numbers,
        )
    worst = sorted(lacking, key=lambda share: (-share.missing, share.device_id, share.hour_ms))
    rows = [
        (
            share.device_id,
            _hour(share.hour_ms),
            f"{share.received:,}",
            f"{share.expected:,.0f}",
            f"{share.received / share.expected:.0%}",
        )
        for share in worst[:MOST_ROWS]
    ]
    names = sorted(by_device, key=lambda name: -sum(share.missing for share in by_device[name]))
    first = worst[0]
    return CheckVerdict(
        COMPLETE,
        False,
        Severity.WARN,
        f"Readings are missing from {name_some(names)}: {as_word(first.device_id)} has "
        f"{first.received:,} of {first.expected:,.0f} in the hour from {_hour(first.hour_ms)}. Was "
        "it without power or network then, or are its messages in the dead letters (`iot "
        "dead-letters list`)? What was sent is here (`iot audit` proves it); only the device can "
        f"send what it kept. IOT_COMPLETE_SHARE is the limit.{remark}",
        numbers,
        DeviceTable(
            ("device", "hour (UTC)", "received", "expected", "share"), rows, len(worst) - len(rows)
        ),
        tuple(names[:MOST_SUSPECTS]),
    )


def _hour(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
