import time
import zlib
from collections.abc import Sequence
from functools import partial

from iot_pipeline.core.checks.device_table import DeviceTable, instant, some
from iot_pipeline.core.checks.verdicts import CheckVerdict, Severity
from iot_pipeline.core.proof.read_back import NOT_WHOLE, ReadBack, RowState
from iot_pipeline.core.reading.offsets import OffsetRange, join_ranges, parse_range
from iot_pipeline.core.reading.write_times import record_of
from iot_pipeline.core.words import iot_command
from iot_pipeline.stages.checks.machinery.check import Check
from iot_pipeline.stages.checks.machinery.facts import Facts
from iot_pipeline.stages.proof.trace import MAX_KEYS, read_back_run

_NAME = "rows_read_back_equal"
# What one core reads from Kafka and Cassandra and compares in a second, with room to spare.
_KEYS_PER_SECOND = 8_000
# A row that ages while we look is not missing.
_GRACE_SECONDS = 60


def look(facts: Facts) -> CheckVerdict:
    """First those that were not equal the last time; then those of a run, or of the last hour."""
    run, suspects = facts.run, [parse_range(item) for item in facts.suspects.get(_NAME, ())]
    if suspects:
        # By themselves: in a sample of a large range they would be left out by chance.
        again = _read_back(facts, suspects, "suspects", 0)
        if not again.passed:
            return again
    if run is None:
        newest = facts.newest_ingested
        ranges = [OffsetRange(e.partition, e.start_offset, e.end_offset) for e in newest]
        stored, seed = sum(entry.counts.stored for entry in newest), str(facts.now)
    else:
        ranges = [*run.part.ranges, *run.replayed]
        stored, seed = run.part.total.stored, run.run_id
    return _read_back(facts, ranges, seed, stored)


def _read_back(facts: Facts, ranges: Sequence[OffsetRange], seed: str, stored: int) -> CheckVerdict:
    """Read rows from Cassandra again and compare them with their records.

    An audit's reading of Kafka is used: it shares nothing with ingestion.

    Args:
        facts: how long it may take: fewer keys, and the end when it is over; some rows are compared
            however late it is.
        ranges: what was ingested or replayed; parts that Kafka has deleted since are left out.
        seed: of the sample, so that looking again looks at the same.
        stored: rows that were made of them; none compared is then no success.
    """
    ports = facts.ports.audit_ports
    seconds = facts.seconds(0.4)
    deadline = time.monotonic() + seconds
    low = {marks.partition: marks.low for marks in ports.log.watermarks(ports.settings.topic)}
    here = [
        OffsetRange(item.partition, max(item.start, low[item.partition]), item.end)
        for item in join_ranges(ranges)
        if item.partition in low and item.end > low[item.partition]
    ]
    found = read_back_run(
        ports,
        here,
        max_keys=min(MAX_KEYS, int(_KEYS_PER_SECOND * seconds)),
        seed=zlib.crc32(seed.encode()),
        aged_before_ms=partial(
            ports.settings.retention.aged_before_ms,
            now_seconds=facts.now.timestamp() + _GRACE_SECONDS,
        ),
        # The other half is for Cassandra: records without rows beside them would say nothing.
        is_read=lambda: time.monotonic() > deadline - seconds / 2,
        is_over=lambda: time.monotonic() > deadline,
    )
    return judge(found, sum(item.span for item in ranges), stored if here else 0)


def judge(read_back: ReadBack, records: int, stored: int = 0) -> CheckVerdict:
    """Rows that were read again, against their records.

    Args:
        read_back: what was found.
        records: offsets that the look was about; more than rows when a sample was read.
        stored: rows that the ledger says they made; comparing none of them proves nothing.
    """
    states = read_back.states
    numbers = {
        "rows_read_back": read_back.rows,
        **{state.value: states[state] for state in RowState},
        "offsets": records,
        "rows_left": read_back.left,
    }
    wrong = [finding for finding in read_back.named if finding.state in NOT_WHOLE]
    torn = [finding for finding in wrong if finding.state is RowState.TORN]
    # Looked at again the next time, whatever that look is about: red until it is whole.
    places = [str(OffsetRange(p, at, at + 1)) for p, at in (record_of(f.row) for f in wrong)]
    table = DeviceTable(
        ("device", "time of the reading (UTC)", "row", "record"),
        [
            (item.device_id, instant(item.timestamp_ms), item.state.value, f"`{place}`")
            for item, place in zip(wrong, places, strict=True)
        ],
    )
    if torn:
        first = torn[0]
        mend = iot_command("mend", then=(first.device_id, f"{first.timestamp_ms / 1000:.3f}"))
        said = (
            f"{states[RowState.TORN]:,} of {read_back.rows:,} rows match no record: {some(torn)}. "
            f"Two records shared a write time: `{mend}` makes the row that of the record that "
            "wins. Where it refuses, another program writes to this table: docs/runbook.md says "
            "what to do."
        )
        return CheckVerdict(False, said, numbers, table, places, Severity.ERROR)
    if wrong:
        said = (
            f"{sum(states[state] for state in NOT_WHOLE):,} of {read_back.rows:,} rows are not "
            f"there: {some(wrong)}. Deleted with plain CQL, refused by Cassandra, or lost: "
            f"`iot audit --offsets {places[0]}` tells which and names the command that restores it."
        )
        return CheckVerdict(False, said, numbers, table, places)
    if stored and not (read_back.rows or read_back.gone):
        said = (
            f"None of {stored:,} stored rows was compared: the records that were read again made "
            "no row. The job checks reads others, `iot audit` over the run's offsets all."
        )
        return CheckVerdict(False, said, numbers)
    if not read_back.rows:
        none = f"No row of {records:,} offsets to compare: none made one that is still there."
        return CheckVerdict(True, none if records else "No rows to read back.", numbers)
    won, left = states[RowState.NEWER], read_back.left
    said = f"{read_back.rows:,} rows, read again, are those of their records"
    said += f"; a later record won over {won:,} of them." if won else "."
    said += f" The time did not suffice for {left:,} more (IOT_CHECK_SECONDS)." if left else ""
    return CheckVerdict(True, said, numbers)


CHECK = Check(
    _NAME,
    "A run's rows, read from Cassandra again, are those of its records in values and write time: "
    "all up to 10,000, else a sample. On its own: those of the last hour.",
    look,
    order=70,
    severity=Severity.ERROR,
    settings=("IOT_CHECK_SECONDS",),
)
