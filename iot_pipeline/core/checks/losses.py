"""Verdicts on what is, or soon may be, missing: read-back, losses, retention, dead letters.

Belongs here: which facts are fine, and the sentence that helps when they are not. Does not belong
here: gathering facts (`stages.loss_checks`); the checks that every table has
(`core.checks.verdicts`).
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from iot_pipeline.core.checks.device_table import MOST_ROWS, DeviceTable, instant, name_some
from iot_pipeline.core.checks.verdicts import CheckVerdict, Severity
from iot_pipeline.core.ledger.losses import Loss
from iot_pipeline.core.proof.dead_letters import StoredLetter, sender_of
from iot_pipeline.core.proof.read_back import NOT_WHOLE, ReadBack, RowState
from iot_pipeline.core.reading.decoding import Reason
from iot_pipeline.core.words import iot_command

READ_BACK = "rows_read_back_equal"
EXPIRED = "nothing_expired_unread"
RETENTION = "retention_is_far"
DEAD_LETTERS = "dead_letters_are_few"

# Nothing is ever deleted: numbers must plot, so for ever is a century.
FOR_EVER_SECONDS = 36_525 * 86_400.0
# Warned when less than this share of what Kafka keeps is left before it deletes unread records.
LEAST_HEADROOM = 0.25
# Among so few records one bad one is already a large share.
_FEW_RECORDS = 100
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Headroom:
    """How far one Kafka partition's retention is from its first unread record.

    `offsets` lie between the low watermark and the checkpoint. `keeps_seconds` is how long Kafka
    keeps a record at the current rates, `left_seconds` how long it will keep the first unread one;
    FOR_EVER_SECONDS when it deletes nothing.
    """

    partition: int
    offsets: int
    keeps_seconds: float
    left_seconds: float

    @property
    def is_far(self) -> bool:
        return self.left_seconds >= LEAST_HEADROOM * self.keeps_seconds


def measure_headroom(
    partition: int,
    *,
    low: int,
    checkpoint: int,
    end: int,
    lag_seconds: float,
    log_seconds: float | None,
    retention_seconds: float | None,
) -> Headroom:
    """Put together what limits a partition: time, size, or both; whichever comes first counts.

    Args:
        partition: its number.
        low: low watermark.
        checkpoint: next offset to read, at least `low` unless records expired already.
        end: last stable offset.
        lag_seconds: how long the record at the checkpoint has been in Kafka.
        log_seconds: age of the oldest record where the log is limited by size; None where not.
        retention_seconds: the topic's retention.ms; None: not limited by time.
    """
    keeps = left = FOR_EVER_SECONDS
    if retention_seconds is not None:
        keeps, left = retention_seconds, retention_seconds - lag_seconds
    if checkpoint < low:
        left = 0.0  # it has begun
    # A log that is limited by size and full loses at its start what arrives at its end; while it
    # has lost nothing yet, it is not full.
    if log_seconds is not None and log_seconds > 0 and end > low > 0:
        arriving_per_second = (end - low) / log_seconds
        keeps = min(keeps, log_seconds)
        left = min(left, (checkpoint - low) / arriving_per_second)
    return Headroom(partition, max(0, checkpoint - low), keeps, max(0.0, left))


def judge_read_back(read_back: ReadBack, records: int, stored: int = 0) -> CheckVerdict:
    """Rows of a run, read from Cassandra again, against their records.

    Args:
        read_back: what was found.
        records: offsets that the run was about; more than rows when a sample was read.
        stored: rows that the ledger says the run made; comparing none of them proves nothing.
    """
    states = read_back.states
    numbers = {
        "rows_read_back": read_back.rows,
        **{state.value: states[state] for state in RowState},
        "offsets": records,
        "rows_left": read_back.left,
    }
    wrong = [finding for finding in read_back.named if finding.state in NOT_WHOLE]
    # Looked at again the next time, whatever that look is about: red until it is whole.
    places = [f"{item.row[2]}:{item.row[1]}-{item.row[1] + 1}" for item in wrong]
    table = DeviceTable(
        ("device", "time of the reading (UTC)", "row", "record"),
        [
            (item.device_id, instant(item.timestamp_ms), item.state.value, f"`{place}`")
            for item, place in zip(wrong, places, strict=True)
        ],
    )
    torn = [finding for finding in wrong if finding.state is RowState.TORN]
    if torn:
        first = torn[0]
        look = iot_command("trace", then=(first.device_id, f"{first.timestamp_ms / 1000:.3f}"))
        return CheckVerdict(
            READ_BACK,
            False,
            Severity.ERROR,
            f"{states[RowState.TORN]:,} of {read_back.rows:,} rows match no record: "
            f"{_first(torn)}. Somebody else writes to this table, or two records shared a write "
            f"time: `{look}` shows the "
            "records behind the row, docs/runbook.md what to do.",
            numbers,
            table,
            places,
        )
    if wrong:
        return CheckVerdict(
            READ_BACK,
            False,
            Severity.WARN,
            f"{sum(states[state] for state in NOT_WHOLE):,} of {read_back.rows:,} rows are not "
            f"there: {_first(wrong)}. Deleted with plain CQL, refused by Cassandra, or lost: "
            f"`iot audit --offsets {places[0]}` tells which and names the command that restores "
            "it.",
            numbers,
            table,
            places,
        )
    if stored and not (read_back.rows or read_back.gone):
        return CheckVerdict(
            READ_BACK,
            False,
            Severity.WARN,
            f"None of {stored:,} stored rows was compared: the records that were read again made "
            "no row. The job checks reads others, `iot audit` over the run's offsets all.",
            numbers,
        )
    won = states[RowState.NEWER]
    later = f"; a later record won over {won:,} of them" if won else ""
    left = (
        f" The time did not suffice for {read_back.left:,} more (IOT_CHECK_SECONDS)."
        if read_back.left
        else ""
    )
    return CheckVerdict(
        READ_BACK,
        True,
        Severity.ERROR,
        f"{read_back.rows:,} rows, read again, are those of their records{later}.{left}"
        if read_back.rows
        else f"No row of {records:,} offsets to compare: none made one that is still there."
        if records
        else "No rows to read back.",
        numbers,
    )


def judge_losses(losses: Sequence[Loss]) -> CheckVerdict:
    """What Kafka deleted before it was read, until a person has seen it."""
    unseen = [loss for loss in losses if loss.acknowledgement is None]
    numbers = {
        "losses": len(losses),
        "unacknowledged": len(unseen),
        "records_at_most": sum(loss.entry.span for loss in losses),
    }
    if unseen:
        return CheckVerdict(
            EXPIRED,
            False,
            Severity.ERROR,
            f"Kafka deleted up to {sum(loss.entry.span for loss in unseen):,} records before they "
            f"were read: {_first([loss.loss_id for loss in unseen])}. Raise the topic's "
            "retention.ms; `iot losses` lists them, `iot losses --acknowledge "
            f"{unseen[0].loss_id} --reason TEXT` notes that you have seen it.",
            numbers,
        )
    seen = f" but for {len(losses):,} ranges that somebody has seen" if losses else ""
    return CheckVerdict(
        EXPIRED, True, Severity.ERROR, f"Kafka deleted nothing unread{seen}.", numbers
    )


def judge_retention(headrooms: Sequence[Headroom]) -> CheckVerdict:
    """Whether Kafka will keep what was not read yet for long enough."""
    nearest = min(headrooms, key=lambda item: item.left_seconds / item.keeps_seconds, default=None)
    numbers = {
        "headroom_offsets": min((item.offsets for item in headrooms), default=0),
        "headroom_seconds": round(
            min((item.left_seconds for item in headrooms), default=FOR_EVER_SECONDS), 3
        ),
        "partitions_near": sum(not item.is_far for item in headrooms),
    }
    if nearest is None or nearest.is_far:
        left = numbers["headroom_seconds"]
        said = (
            "Kafka deletes nothing of this topic."
            if left >= FOR_EVER_SECONDS
            else f"Kafka keeps what is not read yet for {_span(left)} more at least."
        )
        return CheckVerdict(RETENTION, True, Severity.WARN, said, numbers)
    return CheckVerdict(
        RETENTION,
        False,
        Severity.WARN,
        f"Partition {nearest.partition}: Kafka deletes records that were not read in "
        f"{_span(nearest.left_seconds)} at the current rates, {nearest.offsets:,} offsets from "
        f"here; it keeps {_span(nearest.keeps_seconds)} in all. Raise the topic's retention.ms or "
        "retention.bytes now, then see why ingestion lags (the check lag_is_within_limit).",
        numbers,
    )


def judge_dead_letters(
    rejected: int, records: int, newest: Sequence[StoredLetter], limit: float
) -> CheckVerdict:
    """The share of records that could not be readings, lately, why, and whose they are.

    Args:
        rejected: of the last hour.
        records: of the last hour, at least `rejected`.
        newest: dead letters of that time, a sample of the newest where there are many.
        limit: the share that is fine, 0 to 1.
    """
    share = rejected / records if records else 0.0
    reasons = Counter(letter.reason for letter in newest)
    numbers = {
        "rejected": rejected,
        "records": records,
        "share": round(share, 6),
        **{reason.value: reasons[reason.value] for reason in Reason},
    }
    table, names = _senders(newest)
    if share <= limit or (records < _FEW_RECORDS and rejected <= 1):
        return CheckVerdict(
            DEAD_LETTERS,
            True,
            Severity.WARN,
            f"{rejected:,} of {records:,} records of the last hour could not be readings.",
            numbers,
            table,
        )
    common = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    said = ", ".join(f"{name} ({count:,})" for name, count in common)
    option = f" --reason {common[0][0]}" if common else ""
    whose = f" They come from {name_some(names)}." if names else ""
    return CheckVerdict(
        DEAD_LETTERS,
        False,
        Severity.WARN,
        f"{rejected:,} of {records:,} records of the last hour ({share:.1%}) could not be "
        f"readings; the limit is {limit:.1%}.{whose} The newest are: {said or 'not in the topic'}. "
        f"`iot dead-letters list{option}` shows them. Once the sender or the rule is "
        "right, the job replay_dead_letters stores what is a reading by then.",
        numbers,
        table,
    )


def _senders(letters: Sequence[StoredLetter]) -> tuple[DeviceTable, list[str]]:
    """Who sent them, those with the most first: a row per device, and the names alone."""
    by_device: defaultdict[str, list[StoredLetter]] = defaultdict(list)
    for letter in letters:
        by_device[sender_of(letter) or "(unknown)"].append(letter)
    names = sorted(by_device, key=lambda name: (-len(by_device[name]), name))
    rows = []
    for name in names[:MOST_ROWS]:
        latest = max(by_device[name], key=lambda letter: letter.delivered_ms)
        reasons = Counter(letter.reason for letter in by_device[name]).most_common()
        rows.append(
            (
                name,
                f"{len(by_device[name]):,}",
                ", ".join(f"{reason} ({count:,})" for reason, count in reasons),
                f"`{latest.source.partition}:{latest.source.offset}`",
            )
        )
    columns = ("device", "dead letters", "reasons", "the latest, for `iot dead-letters show`")
    return DeviceTable(columns, rows, len(names) - len(rows)), names


def _first(items: Sequence[object]) -> str:
    rest = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return "; ".join(map(str, items[:_SHOWN])) + rest


def _span(seconds: float) -> str:
    for unit, name in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:,.0f} {name}"
    return f"{seconds:,.0f} seconds"
