"""Who reports as often as it uses to, and who has fallen silent.

Belongs here: when silence is a problem, for checks, reports and commands alike. Does not belong
here: learning a rhythm (`core.cadence`), whether what a device says is right
(`core.data_quality`), or all of it is there (`core.completeness`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from iot_pipeline.core.cadence import learn_cadence
from iot_pipeline.core.checks import CheckVerdict
from iot_pipeline.core.device_table import MOST_ROWS, DeviceTable, as_word
from iot_pipeline.core.quality_limits import QualityLimits
from iot_pipeline.core.quality_words import REPORTING, SHOWN, Coverage, green, instant, red, span

# Four intervals tell a cadence.
LEAST_READINGS = 5


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """When a device was heard of last, and how often it reports; None while it is too new.

    `arrived_ms` is the broker's clock: a device whose own clock is wrong is not silent.
    """

    device_id: str
    arrived_ms: int
    cadence_ms: float | None

    def silence_limit_ms(self, limits: QualityLimits) -> float:
        """How long it may say nothing."""
        return max(limits.silent_seconds * 1000, limits.silent_intervals * (self.cadence_ms or 0))

    def is_silent(self, as_of_ms: float, limits: QualityLimits) -> bool:
        """Whether it says nothing for longer than that; of a new one nobody can know."""
        return self.cadence_ms is not None and as_of_ms - self.arrived_ms > self.silence_limit_ms(
            limits
        )


def report_of(
    device_id: str, readings: Iterable[tuple[int, int]], limits: QualityLimits
) -> DeviceReport | None:
    """What a device's newest readings, as (measured_ms, arrived_ms), say of its reporting.

    Backfilled ones do not count: somebody else sent them, later. None when there is no other.
    """
    own = [pair for pair in readings if pair[1] - pair[0] <= limits.backfill_hours * 3_600_000]
    if not own:
        return None
    return DeviceReport(
        device_id,
        max(arrived_ms for _, arrived_ms in own),
        usual_interval_ms(measured_ms for measured_ms, _ in own),
    )


def usual_interval_ms(times_ms: Iterable[int]) -> float | None:
    """How often a device reports, by the event times of its readings; None with fewer than five."""
    times = list(times_ms)
    seconds = learn_cadence(times) if len(times) >= LEAST_READINGS else None
    return None if seconds is None else seconds * 1000


def judge_reporting(
    reports: Sequence[DeviceReport], as_of_ms: int, limits: QualityLimits, coverage: Coverage
) -> CheckVerdict:
    """Who has said nothing for longer than its own cadence allows.

    Args:
        reports: devices that are expected to report.
        as_of_ms: until when everything that arrived is known: now, less the lag of ingestion.
        limits: what is fine.
        coverage: how many of all devices these are.
    """
    known = [report for report in reports if report.cadence_ms is not None]
    silent = sorted(
        (report for report in known if report.is_silent(as_of_ms, limits)),
        key=lambda report: (report.arrived_ms, report.device_id),
    )
    longest = max((as_of_ms - report.arrived_ms for report in silent), default=0)
    numbers: dict[str, int | float] = {
        **coverage.numbers(),
        "devices_silent": len(silent),
        "devices_new": len(reports) - len(known),
        "longest_silence_seconds": longest / 1000,
    }
    if not silent:
        new = len(reports) - len(known)
        sentence = (
            f"{len(known):,} devices report as often as they use to."
            if known
            else "Not enough history yet: no device has sent five readings."
            if reports
            else f"Not enough history yet: no device reported in the last {limits.expected_days} "
            "days."
        )
        if known and new:
            sentence += f" {new:,} are too new to know how often they report."
        return green(REPORTING, sentence, numbers, coverage)
    # A device that was silent first is named first; of one that fell silent nothing else is known.
    rows = [
        (
            report.device_id,
            instant(report.arrived_ms),
            span(as_of_ms - report.arrived_ms),
            span(report.cadence_ms or 0),
        )
        for report in silent[:MOST_ROWS]
    ]
    names = [report.device_id for report in silent]
    cause = (
        "All of them at once: look at what they share, the gateway, the sender, Kafka."
        if len(silent) == len(known) > 1
        else "Check power and network there; `iot readings DEVICE` shows its last readings."
    )
    return red(
        REPORTING,
        f"Silent, {len(silent):,} of {len(known):,} devices: {as_word(names[0])} since "
        f"{instant(silent[0].arrived_ms)}{_and_others(names)}. {cause} IOT_SILENT_SECONDS and "
        "IOT_SILENT_INTERVALS are the limits; a device is no longer expected after "
        f"{limits.expected_days} days.",
        numbers,
        coverage,
        DeviceTable(
            ("device", "silent since", "for", "usually every"), rows, len(silent) - len(rows)
        ),
        names,
    )


def _and_others(names: Sequence[str]) -> str:
    if len(names) == 1:
        return ""
    rest = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return "; also " + ", ".join(as_word(name) for name in names[1:SHOWN]) + rest
