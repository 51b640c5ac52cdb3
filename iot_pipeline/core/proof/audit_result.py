"""What an audit proved and what it could not: every offset's fate, the defects, in sentences."""

import enum
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from iot_pipeline.core.ledger.chain import LOSSES
from iot_pipeline.core.ledger.losses import LOST_HOW
from iot_pipeline.core.proof.audited_days import AuditedDay
from iot_pipeline.core.proof.read_back import MAX_NAMED
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.times import MS_PER_DAY, day_of
from iot_pipeline.core.words import counted, iot_command


class Fate(enum.StrEnum):
    """What became of an offset; `stray` alone is of a row, not of an offset."""

    STORED = "stored"
    SUPERSEDED = "superseded"
    REPEATED = "repeated"
    REJECTED = "rejected"
    IGNORED = "ignored"
    AGED_OUT = "aged_out"
    DELETED = "deleted"
    FORGOTTEN = "forgotten"
    HOLES = "holes"
    EXPIRED = "expired"
    SKIPPED = "skipped"
    UNREADABLE = "unreadable"
    UNVERIFIABLE = "unverifiable"
    IN_FLIGHT = "in_flight"
    LOST = "lost"
    TORN = "torn"
    STRAY = "stray"


# Lost records less than so far from each other are replayed together.
_BLOCK_OFFSETS = 1_000
DEFECTS = (Fate.LOST, Fate.TORN, Fate.STRAY)
# Of these no record could be compared with a row: an audit says so, and proves nothing of them.
UNREAD = (*(Fate(outcome.value) for outcome in LOSSES), Fate.UNVERIFIABLE)
# These have no record, or one that is no reading.
WITHOUT_READING = (Fate.HOLES, Fate.IGNORED)
UNPROVEN = (*UNREAD, Fate.IN_FLIGHT, *WITHOUT_READING)


@dataclass(frozen=True, slots=True)
class Finding:
    """A defect, and where: a record without its row, or a row without its record."""

    fate: Fate
    device_id: str
    timestamp_ms: int
    partition: int | None
    offset: int | None
    detail: str

    def __str__(self) -> str:
        record = "" if self.offset is None else f" (record {self.partition}:{self.offset})"
        return (
            f"{self.fate.upper()} {self.device_id} at {self.timestamp_ms} ms{record}: {self.detail}"
        )

    @property
    def repair(self) -> str:
        """The command that repairs it, or looks closer."""
        timestamp = f"{self.timestamp_ms / 1000:.3f}"
        if self.fate is Fate.TORN:
            return iot_command("mend", then=(self.device_id, timestamp))
        if self.fate is Fate.LOST and self.offset is not None:
            offsets = f"{self.partition}:{self.offset}-{self.offset + 1}"
            return iot_command("replay", "--offsets", offsets)
        return iot_command("trace", then=(self.device_id, timestamp))


@dataclass(slots=True)
class LostOffsets:
    """Where records are lost, in ranges: in bounded memory, whatever their number and order.

    Lost records that are close to each other are in one range: a replay of what lies between
    changes nothing.
    """

    _blocks: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)

    def add(self, partition: int, offset: int) -> None:
        block = partition, offset // _BLOCK_OFFSETS
        first, last = self._blocks.get(block, (offset, offset))
        self._blocks[block] = min(first, offset), max(last, offset)

    @property
    def ranges(self) -> list[OffsetRange]:
        """In order, each from its first lost record to its last."""
        found: list[OffsetRange] = []
        for (partition, _), (first, last) in sorted(self._blocks.items()):
            before = found[-1] if found else None
            if before and before.partition == partition and first - before.end < _BLOCK_OFFSETS:
                found[-1] = OffsetRange(partition, before.start, last + 1)
            else:
                found.append(OffsetRange(partition, first, last + 1))
        return found

    @property
    def repair(self) -> str:
        """The command that writes them again; of the first ranges where there are many."""
        asked = [part for item in self.ranges[:MAX_NAMED] for part in ("--offsets", str(item))]
        return iot_command("replay", *asked)


@dataclass(slots=True)
class AuditResult:
    """Every offset of the audited ranges by its fate, rows per day, and the first defects.

    `gone_by_day` counts records whose rows aged out or were deleted on purpose.
    `cells_by_day` counts cells of all quantities where readings may be told in parts, else nothing.

    `fates` without STRAY add up to the ranges' spans. `is_stray_judged` says whether rows
    without a record were looked for at all; `is_listed`, whether in every partition that the audit
    is about: Cassandra cannot list those of a table that holds too many expired rows.
    `rows_unverifiable` were written before a rebase, and their records are not in this log: they
    count no offset. `doubts` say in sentences what was compared with less than it should be: a log
    that is not the one that was read, a declaration that was not kept, a dropped column. `notes`
    are sentences that take nothing from the proof.
    `uncompared` are the offsets whose records were not compared with rows, or with less than they
    should be, as a doubt then says. `days` has what was
    found of each day of readings that was covered whole; `asked_day`, the one that was asked for.
    """

    ranges: list[OffsetRange] = field(default_factory=list)
    fates: Counter[Fate] = field(default_factory=Counter)
    stored_by_day: Counter[date] = field(default_factory=Counter)
    superseded_by_day: Counter[date] = field(default_factory=Counter)
    gone_by_day: Counter[date] = field(default_factory=Counter)
    cells_by_day: Counter[date] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    defects_by_day: Counter[tuple[date, Fate]] = field(default_factory=Counter)
    uncompared: list[OffsetRange] = field(default_factory=list)
    days: Mapping[date, AuditedDay] = field(default_factory=dict)
    asked_day: date | None = None
    lost: LostOffsets = field(default_factory=LostOffsets)
    rows_unverifiable: int = 0
    doubts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    is_stray_judged: bool = False
    is_listed: bool = True
    records: int = 0
    seconds: float = 0.0
    # How long a row that is replayed would live; 0: as long as it should.
    live_seconds: int = 0

    @property
    def offsets(self) -> int:
        return sum(item.span for item in self.ranges)

    @property
    def is_clean(self) -> bool:
        return not any(self.fates[fate] for fate in DEFECTS)

    @property
    def proven(self) -> int:
        """Offsets whose record was read, and whose row or dead letter is as it should be."""
        return self.offsets - sum(self.fates[fate] for fate in (*UNPROVEN, Fate.LOST, Fate.TORN))

    @property
    def repairs(self) -> list[tuple[Finding, str]]:
        """Each finding with the command for it; one command for all that is lost, at its first.

        Where a replayed row would die at once, the command is the one that says what to alter.
        """
        of_lost = iot_command("setup") if self.live_seconds else self.lost.repair
        shown, is_lost_shown = [], False
        for finding in self.findings:
            command = finding.repair
            if finding.fate is Fate.LOST:
                command, is_lost_shown = ("" if is_lost_shown else of_lost), True
            shown.append((finding, command))
        return shown

    def name(self, finding: Finding) -> None:
        """Count it for its day, and keep the first few: all lost rows are as many as the log."""
        if finding.device_id:
            day = day_of(finding.timestamp_ms // MS_PER_DAY)
            self.defects_by_day[day, finding.fate] += 1
        if finding.fate is Fate.LOST and finding.partition is not None:
            self.lost.add(finding.partition, finding.offset or 0)
        if sum(found.fate is finding.fate for found in self.findings) < MAX_NAMED:
            self.findings.append(finding)


_WHY_FORMER = (
    "unverifiable: written before a rebase, before Kafka lost the end of its log, or before it "
    "could not give the records out any more"
)
_WHY_UNPROVEN = {
    **{
        Fate(outcome.value): f"{outcome}: {how}, `iot losses` lists them"
        for outcome, how in LOST_HOW.items()
    },
    Fate.UNVERIFIABLE: (
        "unverifiable: Kafka does not have the records any more, or cannot give them out, so no "
        "row can be compared with them"
    ),
    Fate.IN_FLIGHT: "in flight: not ingested yet, audit again after the next drain",
    Fate.HOLES: (
        "without a record (holes): compacted away, aborted, or the end of a transaction, so there "
        "is nothing to compare"
    ),
    Fate.IGNORED: (
        "ignored: by the declaration no readings, so there is no row to compare the messages with"
    ),
}


def dying(live_seconds: int) -> str:
    """What a table with this default_time_to_live does, and what to do first; for an advice."""
    return (
        f"{forgets(live_seconds)}, so a replay would write rows that die again. `iot setup` says "
        "what to alter; replay then"
    )


def forgets(live_seconds: int) -> str:
    """What a table with this default_time_to_live does."""
    return f"forgets rows {live_seconds:,} s after they were written (default_time_to_live)"


_UNLISTED = (
    "not looked at: partitions of sensor_data that devices_by_day does not name. Cassandra cannot "
    "list the table's partitions while more than 100,000 deleted or expired cells lie before a row "
    "that lives; rows that another program wrote there were not looked for"
)


def _say_covered(result: AuditResult) -> list[str]:
    """What the day that was asked for means, and how far the audit covered it."""
    day = result.asked_day
    if day is None:
        return []
    asked = f"audited for {day}: what arrived in Kafka on it, and the ranges with readings of it"
    found = result.days.get(day)
    if found is None:
        return [
            f"{asked}. The day is not called proven: the ledger has no reading of it, or some were "
            "stored while the audit ran"
        ]
    kept = "has its row" if found.rows == 1 else "have their row"
    more = f"; {found.found}" if found.found else ""
    return [
        f"{asked}, by the ledger ({counted(found.offsets, 'offset')}): {found.rows:,} of "
        f"{counted(found.stored, 'stored reading')} {kept}{more}"
    ]


def conclude(result: AuditResult) -> list[str]:
    """Sentences, at least one; "nothing is lost" only of offsets that were looked at."""
    if not result.offsets:
        return ["nothing was audited: the ledger has no offsets there"]
    rows = result.rows_unverifiable
    former = [f"{counted(rows, 'row')} {_WHY_FORMER}"] if rows else []
    unproven = [
        f"{counted(result.fates[fate], 'offset')} {_WHY_UNPROVEN[fate]}"
        for fate in UNPROVEN
        if result.fates[fate]
    ]
    if result.live_seconds:
        unproven.append(f"the table sensor_data {dying(result.live_seconds)}")
    unlisted = [] if result.is_listed else [_UNLISTED]
    covered = _say_covered(result)
    told = [*covered, *unproven, *former, *result.doubts, *unlisted, *result.notes]
    return [_verdict(result), *told]


_NO_STRAYS_LOOKED_FOR = (
    "; rows without a record were not looked for, because not every partition was read whole"
)


def _verdict(result: AuditResult) -> str:
    if not result.is_clean:
        defects = ", ".join(f"{result.fates[f]:,} {f.value}" for f in DEFECTS if result.fates[f])
        return f"{defects}: the command after each arrow repairs it or looks closer"
    strays = ", and no row is stray" if result.is_stray_judged else _NO_STRAYS_LOOKED_FOR
    if sum(result.fates[fate] for fate in WITHOUT_READING) == result.offsets:
        of_all = counted(result.offsets, "offset")
        return f"nothing to compare: there is no reading in {of_all}{strays}"
    if not result.proven:
        return f"none of {result.offsets:,} offsets could be proven"
    but = ", but for the doubts below" if result.doubts else ""
    if result.proven < result.offsets:
        of_all = f"{result.proven:,} of {result.offsets:,} offsets are proven{but}"
        return f"{of_all}: none of these is lost or torn{strays}"
    sentence = f"all {result.offsets:,} offsets are proven{but}"
    if result.is_stray_judged:
        return f"nothing is lost, torn or stray: {sentence}"
    return f"nothing is lost or torn: {sentence}{strays}"
