"""Who reports as often as it uses to, and who has fallen silent.

Belongs here: when silence is a problem. Does not belong here: learning a rhythm
(`core.cadence`), whether what a device says is right (`core.data_quality`), or all of it is there
(`core.completeness`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from iot_pipeline.core.cadence import learn_cadence
from iot_pipeline.core.checks import CheckVerdict
from iot_pipeline.core.device_table import MOST_ROWS, DeviceTable, as_word
from iot_pipeline.core.device_tally import QualityLimits
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
        (r for r in known if as_of_ms - r.arrived_ms > r.silence_limit_ms(limits)),
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
