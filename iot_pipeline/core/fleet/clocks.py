"""Why a clock is wrong, where what it says tells: clocks begin and overflow at known times."""

from iot_pipeline.core.times import MS_PER_DAY, MS_PER_HOUR

# What a clock without a battery says after a restart; it counts from there.
_RESET_MS = 946_684_800_000  # 2000-01-01
_RESET_DAYS = 366
# A GPS receiver sends the week modulo 1,024.
_ROLLOVER_MS = 1_024 * 7 * MS_PER_DAY
_ROLLOVER_DAYS = 7
# No buffer is sent so late: what fits a cause and is older than this was not kept for so long.
_LEAST_YEARS_MS = 3 * 365 * MS_PER_DAY
_OVERFLOWS_MS = {
    2_085_978_496_000: "2036-02-07, which is what NTP's zero reads as: it never heard the time",
    2_147_483_648_000: "2038-01-19, where seconds in 32 bits end",
}

# Ten readings over ten seconds that are late by the same to within two: a clock, not a network.
STEADY_MS = 2_000
STEADY_READINGS = 10
STEADY_SPAN_MS = 10_000

RESET = "it was reset to 2000-01-01 and counts from there"
ROLLED_OVER = "that is 1,024 weeks, as a GPS receiver whose week number rolled over says"


def why_off(measured_ms: int, arrived_ms: int) -> str:
    """The cause that fits a reading measured then, as words; empty when none does.

    A reading that arrived years after it was measured may be history that is sent now; one that
    fits a cause is taken for a wrong clock.
    """
    delay = arrived_ms - measured_ms
    if delay > _LEAST_YEARS_MS:
        if _RESET_MS <= measured_ms < _RESET_MS + _RESET_DAYS * MS_PER_DAY:
            return RESET
        if -MS_PER_HOUR <= delay - _ROLLOVER_MS <= _ROLLOVER_DAYS * MS_PER_DAY:
            return ROLLED_OVER
    for begins_ms, words in _OVERFLOWS_MS.items():
        if delay < 0 and begins_ms <= measured_ms < begins_ms + MS_PER_DAY:
            return f"it says {words}"
    return ""


def fits_day(day_ms: int, now_ms: int) -> bool:
    """Whether readings of a UTC day long past may come from a wrong clock of now."""
    return any(
        why_off(day_ms + part, now_ms) in (RESET, ROLLED_OVER) for part in (0, MS_PER_DAY - 1)
    )


def went_back(before_ms: int, ms: int) -> bool:
    """Whether a clock that is reset at each start has started anew between these."""
    return ms < before_ms - STEADY_MS
