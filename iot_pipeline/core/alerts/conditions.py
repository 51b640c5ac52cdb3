"""How things stand, as alerts see them: a check, a server, a job, a sensor, each red or green.

Belongs here: what an alert can be about, and which red is only another's consequence. Does not
belong here: looking (`stages.alerts`, `defs.alerts`), and what was told before (`changes`).
"""

import enum
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from iot_pipeline.core.checks.verdicts import CheckVerdict, Severity

# What an alert can be about besides a check; docs/runbook.md has a heading for each.
SERVER_IS_AWAY = "server_is_away"
INGESTION_STANDS_STILL = "ingestion_stands_still"
RUN_FAILED = "run_failed"
SENSOR_STOPPED = "sensor_stopped"
DAEMON_STOPPED = "daemon_stopped"
KINDS = (SERVER_IS_AWAY, INGESTION_STANDS_STILL, RUN_FAILED, SENSOR_STOPPED, DAEMON_STOPPED)
_OF_A_SERVER = (INGESTION_STANDS_STILL, SENSOR_STOPPED)
_MOST_ROWS = 5


class Level(enum.IntEnum):
    """Green, or how red."""

    GREEN = 0
    WARN = 1
    ERROR = 2

    @classmethod
    def of(cls, severity: Severity) -> "Level":
        return cls.ERROR if severity is Severity.ERROR else cls.WARN


@dataclass(frozen=True, slots=True)
class Condition:
    """How one thing stands.

    Args:
        kind: one of KINDS or a check's name; the runbook's heading begins with it.
        level: as it is now.
        sentence: what was found, and what to do.
        name: which one, where there are several: the server, the job, the sensor, the table.
        devices: the worst ones, a line each.
        path: where Dagster's UI shows it, below its address.
        away: the server whose silence is the cause, as far as known.
    """

    kind: str
    level: Level
    sentence: str
    name: str = ""
    devices: Sequence[str] = ()
    path: str = ""
    away: str = ""

    @property
    def is_of_ingest(self) -> bool:
        """Whether it is about the job `ingest`, or one lane of it."""
        return self.name.split(" ")[0] == "ingest"

    @property
    def subject(self) -> str:
        """What it is about: `server_is_away/Cassandra`, `devices_are_reporting`."""
        return f"{self.kind}/{self.name}" if self.name else self.kind


def condition_of(
    verdict: CheckVerdict, *, table: str = "", path: str = "", worst: str | None = None
) -> Condition | None:
    """A check's verdict as a condition; None: it says nothing of how things stand.

    A check that had no time, or whose server was away, is neither red nor green. `worst` is its
    table of devices as markdown, where the verdict itself does not have it any more.
    """
    if not verdict.passed and not verdict.is_looked and not verdict.is_refused:
        return None
    level = Level.GREEN if verdict.passed else Level.of(verdict.severity)
    devices = rows_of(verdict.worst.markdown() if worst is None else worst)
    return Condition(verdict.name, level, verdict.sentence, table, devices, path)


def rows_of(markdown: str) -> tuple[str, ...]:
    """The first rows of a table of devices, as plain lines; the headings come first."""
    lines = [line for line in markdown.splitlines() if line.startswith("| ")]
    return tuple(
        " · ".join(cell.strip(" `") for cell in line.strip("| ").split(" | "))
        for line in lines[: _MOST_ROWS + 1]
    )


def is_any_away(conditions: Iterable[Condition]) -> bool:
    return any(item.level and item.kind == SERVER_IS_AWAY for item in conditions)


def without_consequences(
    conditions: Iterable[Condition],
    lag_checks: Collection[str] = (),
    *,
    is_recovering: bool = False,
) -> list[Condition]:
    """Those that stand for themselves: a server's death is one message, not ten.

    Left out is what is red because a server is away, the red lag of ingestion that stands still,
    and standing still because runs fail. What is left out was not looked at, as far as alerts know:
    what was told of it before stays told.

    Args:
        lag_checks: the checks that are red whenever nothing is ingested.
        is_recovering: a server was away a moment ago: what waited for it is not ingested yet.
    """
    found = list(conditions)
    red = {item.subject for item in found if item.level}
    is_away = is_any_away(found)
    waits = (*_OF_A_SERVER, *lag_checks) if is_away or is_recovering else ()
    fails = any(item.level and item.kind == RUN_FAILED and item.is_of_ingest for item in found)
    stands = INGESTION_STANDS_STILL in red
    kept = []
    for item in found:
        implied = (
            item.kind in waits
            or (is_away and bool(item.away))
            or (fails and item.kind == INGESTION_STANDS_STILL)
            or (stands and item.kind in lag_checks)
        )
        if not item.level or item.kind == SERVER_IS_AWAY or not implied:
            kept.append(item)
    return kept
