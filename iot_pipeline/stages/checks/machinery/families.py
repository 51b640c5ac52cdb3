"""What checks of one family share: those on devices, and those on rollups."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from iot_pipeline.core.checks.device_table import (
    MOST_ROWS,
    DeviceTable,
    as_word,
    name_some,
    some,
)
from iot_pipeline.core.checks.verdicts import CheckVerdict, Numbers, Severity, not_looked
from iot_pipeline.core.fleet.problems import DeviceProblem, Fleet, Trouble
from iot_pipeline.core.fleet.state import DeviceState
from iot_pipeline.core.words import counted
from iot_pipeline.stages.checks.machinery.check import CASSANDRA, DAILY, HOURLY, Check
from iot_pipeline.stages.checks.machinery.facts import Facts
from iot_pipeline.stages.rollups.comparison import DayComparison

_MOST_SUSPECTS = 200


@dataclass(frozen=True, slots=True)
class DevicesSaid:
    """What a check says of the devices that have its trouble, worst first.

    `good` is the sentence when there are none, `bad` when there are. `columns` are the table's,
    the device's name first; `cells` are those of a device behind its name.
    """

    numbers: Numbers
    good: str
    bad: str
    columns: Sequence[str]
    cells: Callable[[str, DeviceState], Sequence[str]]


def on_devices(
    name: str,
    question: str,
    trouble: Trouble,
    say: Callable[[Fleet, list[DeviceProblem]], DevicesSaid],
    *,
    order: int,
    settings: tuple[str, ...],
) -> Check:
    """A check that is red when a device has this trouble, and never red otherwise."""

    def look(facts: Facts) -> CheckVerdict:
        fleet = facts.fleet
        found = fleet.problems[trouble]
        said = say(fleet, found)
        numbers = {"devices": fleet.known, "devices_looked_at": len(fleet.states), **said.numbers}
        if fleet.unlooked and not fleet.states:
            why = (
                f"None of {fleet.unlooked:,} devices was looked at: there was no time for it. "
                "The next check begins with them."
            )
            return not_looked(why, numbers)
        names = [problem.device_id for problem in found]
        has_groups = any(problem.group for problem in found)
        rows = [
            (name, *said.cells(name, fleet.states[name]), *[problem.group] * has_groups)
            for name, problem in zip(names[:MOST_ROWS], found, strict=False)
        ]
        columns = [*said.columns, *["limits of the group"] * has_groups]
        return CheckVerdict(
            not found,
            (said.bad if found else said.good) + fleet.limits.and_own + _left_out(fleet),
            numbers,
            DeviceTable(columns, rows, len(names) - len(rows)) if rows else DeviceTable(),
            names[:_MOST_SUSPECTS],
        )

    return Check(name, question, look, order, settings=settings, is_of_devices=True)


def named(found: Sequence[DeviceProblem]) -> str:
    """The first few devices, and what is wrong with the worst of them; empty without any."""
    if not found:
        return ""
    worst = found[0]
    if len(found) == 1:
        return f"{as_word(worst.device_id)}: {worst.sentence}"
    names = name_some([problem.device_id for problem in found])
    return f"{names} ({as_word(worst.device_id)}: {worst.sentence})"


def _left_out(fleet: Fleet) -> str:
    """What was not looked at; empty when everything was."""
    parts = []
    if fleet.unlooked:
        parts.append(f"{fleet.unlooked:,} of {fleet.known:,} devices")
    if fleet.rows_seen < fleet.rows:
        parts.append(f"{fleet.rows - fleet.rows_seen:,} of {fleet.rows:,} readings")
    return f" Not looked at this time: {' and '.join(parts)}." if parts else ""


def on_rollups(
    name: str,
    question: str,
    judge: Callable[[Sequence[DayComparison]], CheckVerdict],
    *,
    order: int,
) -> tuple[Check, ...]:
    """The check on the hourly rollups, and the same on the daily ones."""

    def look_at(asset: str) -> Callable[[Facts], CheckVerdict]:
        def look(facts: Facts) -> CheckVerdict:
            return judge(facts.compared.hourly if asset == HOURLY else facts.compared.daily)

        return look

    return tuple(
        Check(
            name,
            question,
            look_at(asset),
            order + number,
            severity=Severity.ERROR,
            asks=(CASSANDRA,),
            settings=("IOT_CHECK_SECONDS",),
            asset=asset,
        )
        for number, asset in enumerate((HOURLY, DAILY))
    )


def coverage(days: Sequence[DayComparison]) -> dict[str, int]:
    """How much of the rollups was compared, as numbers."""
    return {
        "days": len(days),
        "days_touched": sum(day.is_touched for day in days),
        "days_not_whole": sum(day.compared < day.devices for day in days),
    }


def fine(days: Sequence[DayComparison], what: str) -> str:
    """The sentence when nothing is wrong, with what was not compared; `what` the rows do."""
    if not days:
        return "No rollups to compare yet."
    settled = [day for day in days if not day.is_touched]
    touched = [day.day for day in days if day.is_touched]
    part = [day for day in days if day.compared < day.devices]
    said = "Nothing to compare."
    if settled:
        rows = sum(day.rows for day in settled)
        said = f"{counted(rows, 'row')} of {counted(len(settled), 'day')} {what}."
    if touched:
        said += (
            f" Rows of {some(touched, ', ')} changed since their rebuild; the sensor "
            "rollups_of_touched_days asks for the next one."
        )
    if settled and part:
        said += (
            f" The time of this check sufficed for {sum(day.compared for day in part):,} of "
            f"{sum(day.devices for day in part):,} devices."
        )
    return said
