"""Which days want their rollups rebuilt: what the ledgers say now against what was rebuilt.

Whatever changes rows of a day changes what the ledgers say of it: an ingest run adds to the day's
sum, a replay and a deletion are remembered by themselves. A rebuild keeps a fingerprint of that
(`seen`), taken before it reads any row; a day is touched when its fingerprint is another one.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cache

import msgspec

from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.reading.retention import Retention
from iot_pipeline.core.times import moment_of

# A deletion is remembered before its rows go: a rebuild in between must not be the last one.
DELETION_SETTLES = timedelta(minutes=10)
# Readings begin after the newest pause longer than this: one device whose clock is years behind
# would begin them years ago.
LONGEST_PAUSE = timedelta(days=31)
# A rebuild that began before rows age must be done before they do.
FREEZE_AHEAD = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class IngestedPart:
    """One entry of the ingest ledger: its range, and what that stored per UTC day.

    `first_record_ms` is the Kafka timestamp of its oldest record; None when it had none.
    """

    offsets: OffsetRange
    stored_by_day: Mapping[date, int]
    first_record_ms: int | None


@dataclass(frozen=True, slots=True)
class ReplayedPart:
    """One replay: ranges of the log, or none for dead letters; counts as replay_ledger has them."""

    name: str
    ranges: Sequence[OffsetRange]
    stored: int
    stored_by_day: Mapping[date, int]


@dataclass(frozen=True, slots=True)
class DeletedPart:
    """One deletion: how many rows it found, per UTC day."""

    name: str
    deleted_at: datetime
    rows_by_day: Mapping[date, int]


@dataclass(slots=True)
class DayFacts:
    """What the ledgers say of one UTC day.

    `oldest_ms` is a time at or before the day's first record arrived in Kafka, None when only a
    deletion names the day. `names` are the replays and deletions that touched it, `fresh` those of
    them whose rows may still go; `is_deleted`: a deletion did.
    """

    stored: int = 0
    oldest_ms: int | None = None
    names: set[str] = field(default_factory=set)
    fresh: set[str] = field(default_factory=set)
    is_deleted: bool = False

    @property
    def seen(self) -> str:
        """Equal for equal facts; another text once a deletion has settled, too."""
        return self._text({f"{n} fresh" if n in self.fresh else n for n in self.names})

    @property
    def touched(self) -> str:
        """Equal for equal facts, whatever the time."""
        return self._text(self.names)

    def _text(self, names: Collection[str]) -> str:
        if not names:
            return f"stored {self.stored}"
        digest = hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()[:16]
        return f"stored {self.stored}, {len(names)} replays and deletions {digest}"


@dataclass(frozen=True, slots=True)
class DayRecord:
    """What a rebuild of a day left behind.

    `seen` is of before it read the first row. `write_time_us` is that of every cell it wrote.
    """

    day: date
    rebuilt_at: datetime
    write_time_us: int
    seen: str
    readings: int
    devices: int
    seconds: float
    run_id: str


def gather_facts(
    parts: Iterable[IngestedPart],
    replays: Sequence[ReplayedPart],
    deletions: Iterable[DeletedPart],
    now: datetime,
) -> dict[date, DayFacts]:
    """What is known of each day that was ever ingested, replayed or deleted.

    A replay over ranges touches the days that those ranges stored; one of dead letters the days it
    says, and all days when it replaced rows of unnamed ones.
    """
    days: defaultdict[date, DayFacts] = defaultdict(DayFacts)
    of_partition: defaultdict[int, list[tuple[OffsetRange, str]]] = defaultdict(list)
    for replay in replays:
        for item in replay.ranges:
            of_partition[item.partition].append((item, replay.name))
    for part in parts:
        names = {
            name
            for item, name in of_partition.get(part.offsets.partition, ())
            if item.start < part.offsets.end and part.offsets.start < item.end
        }
        for day, stored in part.stored_by_day.items():
            facts = days[day]
            facts.stored += stored
            facts.names |= names
            if part.first_record_ms is not None:
                facts.oldest_ms = min(part.first_record_ms, facts.oldest_ms or 1 << 62)
    for replay in replays:
        for day, stored in replay.stored_by_day.items():
            days[day].stored += stored
            days[day].names.add(replay.name)
        if not replay.ranges and replay.stored > sum(replay.stored_by_day.values()):
            for facts in days.values():
                facts.names.add(replay.name)
    for deletion in deletions:
        is_fresh = now - deletion.deleted_at < DELETION_SETTLES
        for day in deletion.rows_by_day:
            days[day].names.add(deletion.name)
            if is_fresh:
                days[day].fresh.add(deletion.name)
            days[day].is_deleted = True
    return dict(days)


def find_first_day(facts: Mapping[date, DayFacts], known: date | None, today: date) -> date | None:
    """The day with which readings begin, never later than the one `known`; None without any.

    Days after `today` (UTC) come from clocks that are ahead.
    """
    first: date | None = None
    for day in sorted((day for day in facts if facts[day].stored), reverse=True):
        if day <= today and (first is None or first - day <= LONGEST_PAUSE):
            first = day
    if known is None or first is None:
        return first if known is None else known
    return min(first, known)


def frozen_from(facts: DayFacts | None, retention_days: float, now: datetime) -> datetime | None:
    """When rows of the day age out, if a rebuild would come too late for that; else None.

    Rows live from when they arrived in Kafka, so a month that was backfilled today is not old.
    """
    if not retention_days or facts is None or facts.oldest_ms is None:
        return None
    aging = moment_of(facts.oldest_ms) + timedelta(days=retention_days)
    return aging if now >= aging - FREEZE_AHEAD else None


def find_frozen(
    facts: DayFacts | None, retention: Retention, now: datetime
) -> Callable[[str], bool]:
    """Whether the rollups of a device stay as they are, because its rows of the day age out."""
    by_days = cache(lambda days: frozen_from(facts, days, now) is not None)
    return lambda device_id: by_days(retention.days_of(device_id))


class Waiting(msgspec.Struct, frozen=True, array_like=True):
    """A touched day as it was seen: `since` when it was first, `changed` when its marks last did.

    Instants in seconds since 1970.
    """

    seen: str
    since: float
    changed: float


@dataclass(frozen=True, slots=True)
class DueDays:
    """Touched days by what happens to them next, each list in order.

    `due`: rebuild now. `waiting`: touched, not quiet yet; what to remember until the next look.
    `frozen`: touched, but their rows age out. `outside`: touched, and no partition of the asset.
    """

    due: list[date]
    waiting: dict[date, Waiting]
    frozen: list[date]
    outside: list[date]


def choose_due_days(
    facts: Mapping[date, DayFacts],
    records: Mapping[date, DayRecord],
    remembered: Mapping[date, Waiting],
    now: datetime,
    *,
    first_day: date,
    quiet_seconds: float,
    refresh_seconds: float,
    retention_days: float,
) -> DueDays:
    """Sort the touched days.

    A day is due when nothing touched it for `quiet_seconds`, or when it has waited for
    `refresh_seconds`: a backfill that goes on for an hour is not waited for. A day that is not
    over is rebuilt at most every `refresh_seconds`, and at once when it never was.
    """
    due: list[date] = []
    waiting: dict[date, Waiting] = {}
    frozen: list[date] = []
    outside: list[date] = []
    clock, today = now.timestamp(), now.date()
    for day in sorted(facts):
        seen, record = facts[day].seen, records.get(day)
        if record is not None and record.seen == seen:
            continue
        if not first_day <= day <= today:
            outside.append(day)
            continue
        if frozen_from(facts[day], retention_days, now):
            frozen.append(day)
            continue
        before = remembered.get(day)
        state = Waiting(
            seen,
            clock if before is None else before.since,
            clock if before is None or before.seen != seen else before.changed,
        )
        if _is_due(state, record, clock, day == today, quiet_seconds, refresh_seconds):
            due.append(day)
        else:
            waiting[day] = state
    return DueDays(due, waiting, frozen, outside)


def _is_due(
    state: Waiting,
    record: DayRecord | None,
    clock: float,
    is_open: bool,
    quiet_seconds: float,
    refresh_seconds: float,
) -> bool:
    if is_open:
        return record is None or clock - record.rebuilt_at.timestamp() >= refresh_seconds
    return clock - state.changed >= quiet_seconds or clock - state.since >= refresh_seconds


def as_ranges_of_days(days: Collection[date]) -> list[tuple[date, date]]:
    """Neighbouring days together: (first, last), both inclusive, in order."""
    ranges: list[tuple[date, date]] = []
    for day in sorted(days):
        if ranges and ranges[-1][1] + timedelta(days=1) == day:
            ranges[-1] = (ranges[-1][0], day)
        else:
            ranges.append((day, day))
    return ranges
