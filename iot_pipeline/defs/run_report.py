"""What a run says of itself and of its dead letters: numbers that plot, and a page in words."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import dagster as dg

from iot_pipeline.core.checks.device_table import DeviceTable, instant
from iot_pipeline.core.ingest.latency import Latencies
from iot_pipeline.core.proof.dead_letters import StoredLetter, dead_letter_topic_of, sender_of
from iot_pipeline.core.reading.lag import PartitionLag, total_lag
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.words import counted, plain
from iot_pipeline.defs.pipeline import Pipeline
from iot_pipeline.errors import PipelineError
from iot_pipeline.stages.ingest.progress import DrainProgress
from iot_pipeline.stages.ports.log import RecordLogReader
from iot_pipeline.stages.proof.dead_letters import read_newest_letters
from iot_pipeline.stages.proof.replay_progress import ReplayProgress

# Letters of one observation that are read back; more than these are counted, not sorted.
_MOST_READ = 200
# A run that stays goes on while its report is made: letters that came since are passed over.
_COME_SINCE = 20
_SHOWN_LETTERS = 5
_SHOWN_LATENCIES = ("latency_p50_ms", "latency_p99_ms")
# None: it could not be read.
Lags = Sequence[PartitionLag] | None


@dataclass(frozen=True, slots=True)
class RunReport:
    """What one ingest run did.

    `ahead` says who ingested, before or meanwhile, what this run was to. `lags` were read when it
    was done; None: they could not be. `lost` is what could not be read and was recorded so.
    `latencies` are those of a sample of its rows, from the broker's timestamp to the answer that
    held the row. For a run that stays it is what it did since its last report, and `started_at` is
    when that was.
    """

    topic: str
    progress: DrainProgress
    replayed: ReplayProgress
    lags: Lags
    started_at: datetime
    ahead: Sequence[str] = ()
    lost: Sequence[OffsetRange] = ()
    latencies: Latencies = field(default_factory=Latencies)

    @property
    def rows_per_second(self) -> float:
        seconds = self.progress.seconds
        return self.progress.total.stored / seconds if seconds else 0.0

    @property
    def waited_seconds(self) -> float:
        """How long the oldest record of this run had waited in Kafka when the run began."""
        first_ms = self.progress.total.first_record_ms
        if first_ms is None:
            return 0.0
        return max(0.0, self.started_at.timestamp() - first_ms / 1000)

    def numbers(self) -> dict[str, int | float]:
        """What a run is about, by name; each plots over runs.

        What is rare is there only where there is some of it.
        """
        total, latencies = self.progress.total, self.latencies.numbers()
        rare = {
            "superseded": total.superseded,
            "repeated": total.repeated,
            "ignored": total.ignored,
            "aged_out": total.aged_out,
            "holes": total.holes,
            "offsets_expired": sum(item.span for item in self.lost),
            "offsets_replayed": self.replayed.done_offsets,
            "rows_not_whole": self.replayed.rows_not_whole,
        }
        return {
            "stored": total.stored,
            "rejected": total.rejected,
            "offsets": self.progress.done_offsets,
            "rows_per_second": round(self.rows_per_second, 1),
            **self._lag_numbers(),
            **{name: latencies[name] for name in _SHOWN_LATENCIES if name in latencies},
            **{name: count for name, count in rare.items() if count},
        }

    def machinery(self) -> dict[str, int | float]:
        """How the run worked, for who operates it: plots on the topic's page, `iot/iot_data`."""
        progress = self.progress
        ends = (
            {}
            if self.lags is None
            else {"end_offsets": sum(i.state.last_stable for i in self.lags)}
        )
        return {
            **self._lag_numbers(),
            **ends,
            "waited_seconds": round(self.waited_seconds, 3),
            "seconds": round(progress.seconds, 3),
            "micro_batches": progress.micro_batches,
            "split_ms": progress.split_ms,
            "unknown_fields": progress.unknown_fields,
            "fenced": len(progress.fenced),
            **self.latencies.numbers(),
        }

    def metadata(self) -> Mapping[str, Any]:
        """The materialization's; the UI shows it in this order."""
        return {
            "summary": self.summary(),
            **self.numbers(),
            "ranges": ", ".join(map(str, [*self.replayed.achieved, *self.progress.ranges]))
            or "none",
            "in_words": dg.MetadataValue.md(self.page()),
        }

    def summary(self) -> str:
        """What a person wants to know first: what was done, what was refused, what waits."""
        rejected = self.progress.total.rejected
        parts = [self.headline()]
        if self.lost:
            parts.append(f"LOST: {sum(item.span for item in self.lost):,} offsets were not read")
        if rejected:
            parts.append(f"{rejected:,} could not be readings")
        if self.lags is None:
            parts.append("the lag could not be read")
        elif (lag := total_lag(self.lags)).lag_seconds >= 1:
            parts.append(f"{lag.lag_offsets:,} wait since {lag.lag_seconds:.1f} s")
        return "; ".join(parts)

    def waiting(self) -> str:
        """How far ingestion was behind when it was done."""
        if self.lags is None:
            return "How much waits could not be read: see the check lag_is_within_limit"
        lag = total_lag(self.lags)
        return (
            f"{lag.lag_offsets:,} offsets of {self.topic} wait, the oldest since "
            f"{lag.lag_seconds:.1f} s"
        )

    def _lag_numbers(self) -> dict[str, int | float]:
        if self.lags is None:
            return {}
        lag = total_lag(self.lags)
        return {"lag_offsets": lag.lag_offsets, "lag_seconds": round(lag.lag_seconds, 3)}

    def page(self) -> str:
        progress, total = self.progress, self.progress.total
        lines = [f"### {self.headline()}", ""]
        if progress.ranges:
            lines += [
                "| Kafka partition | from | to (next offset) | offsets | stored |",
                "|---:|---:|---:|---:|---:|",
            ]
            lines += [
                f"| {item.partition} | {item.start} | {item.end} | {item.span} | {counts.stored} |"
                for item, counts in progress.parts
            ]
            lines += ["", f"**{progress.done_offsets:,} offsets = {total}**", ""]
        lines += [f"- {line}" for line in self._remarks()]
        lines.append(f"- {self.waiting()}.")
        return "\n".join(lines)

    def headline(self) -> str:
        progress = self.progress
        if self.ahead:
            return (
                f"Overtaken after {progress.total.stored:,} rows: another run is ahead; "
                "nothing is wrong"
            )
        if self.replayed.planned and not progress.planned_offsets:
            return (
                f"{self.replayed.done_offsets:,} offsets replayed: {self.replayed.counts.stored:,} "
                "rows written again, as they were"
            )
        if not progress.planned_offsets:
            return f"Nothing new in {self.topic}"
        return (
            f"{progress.total.stored:,} rows stored in {progress.seconds:.1f} s "
            f"({self.rows_per_second:,.0f} a second)"
        )

    def _remarks(self) -> list[str]:
        total = self.progress.total
        remarks = [f"{who}; this run left the rest to it." for who in self.ahead]
        if self.lost:
            ranges = ", ".join(map(str, self.lost))
            remarks.append(
                f"**LOST: {ranges} were not read**: Kafka deleted them before, or cannot give them "
                "out. They are in the ledger; `iot losses` says why of each."
            )
        if self.replayed.planned:
            ranges = ", ".join(map(str, self.replayed.achieved)) or "nothing yet"
            restored = sum(self.replayed.counts.stored_by_day.values())
            remarks.append(
                f"Replayed {ranges}, below the checkpoint: {self.replayed.counts.stored:,} rows "
                f"written with the write times they had, {restored:,} of them new to the ledgers, "
                f"{self.replayed.rows_not_whole:,} not found whole afterwards. No checkpoint moved."
            )
        if total.first_record_ms is not None and total.last_record_ms is not None:
            remarks.append(
                f"Its records arrived in Kafka from {instant(total.first_record_ms)} to "
                f"{instant(total.last_record_ms)}; the oldest had waited "
                f"{self.waited_seconds:.1f} s."
            )
        if self.latencies.samples:
            remarks.append(
                f"From the broker's timestamp to a row that could be read: {self.latencies} "
                f"({self.latencies.samples:,} rows read back)."
            )
        if total.stored_by_day:
            days = ", ".join(
                f"{day} ({rows:,})" for day, rows in sorted(total.stored_by_day.items())[-5:]
            )
            remarks.append(f"Rows by UTC day of their readings: {days}.")
        if total.rejected:
            remarks.append(
                f"{total.rejected:,} records could not be readings. They are kept whole in "
                f"`{dead_letter_topic_of(self.topic)}` with the reason; `iot dead-letters list` "
                "shows them."
            )
        if total.superseded:
            remarks.append(
                f"{total.superseded:,} readings had the device and millisecond of another one "
                "with other values in the same micro-batch, and that one is the row: two devices "
                "of one id, or more than one reading in a millisecond."
            )
        if total.repeated:
            remarks.append(
                f"{total.repeated:,} readings were sent again in the same micro-batch, with the "
                "same values: one row each, nothing is missing."
            )
        if total.ignored:
            remarks.append(
                f"{total.ignored:,} messages are known and no readings, as the declaration says: "
                "nothing is stored of them."
            )
        if total.holes:
            remarks.append(
                f"{total.holes:,} offsets hold no record: compacted, aborted, or a transaction's "
                "marker."
            )
        if self.progress.split_ms:
            remarks.append(
                f"{self.progress.split_ms} broker milliseconds were too large to remember "
                "(docs/guarantees.md says what that may mean)."
            )
        return remarks


def observations(
    report: RunReport, log: RecordLogReader, dead_letter_topic: str, pipeline: Pipeline
) -> Iterator[dg.AssetObservation]:
    """What a run, or a part of one, saw of the topic, and of the dead letters that it made."""
    yield dg.AssetObservation(
        asset_key=pipeline.iot_data,
        description=plain(report.waiting()),
        metadata=report.machinery(),
    )
    rejected = report.progress.total.rejected
    if rejected:
        summary, metadata = _describe_dead_letters(
            log, report.topic, dead_letter_topic, report.progress.ranges, rejected
        )
        yield dg.AssetObservation(
            asset_key=pipeline.dead_letters,
            description=plain(f"{summary}; `iot dead-letters list` shows them"),
            metadata={"summary": summary, **metadata},
        )


def _describe_dead_letters(
    log: RecordLogReader,
    topic: str,
    dead_letter_topic: str,
    ranges: Sequence[OffsetRange],
    rejected: int,
) -> tuple[str, dict[str, Any]]:
    """A sentence and the numbers of the letters of these ranges of the topic.

    Costs two questions and one read from the end of the dead letters, at most 200 letters.
    `rejected` is how many there are, at least 1, as the ledger has it.
    """
    metadata: dict[str, Any] = {"rejected": rejected}
    try:
        marks = log.watermarks(dead_letter_topic)
        most = min(rejected, _MOST_READ) + _COME_SINCE
        found = read_newest_letters(log, dead_letter_topic, most).letters
    except PipelineError as exc:
        # The letters are there; a topic or broker that is gone now must not fail the run for a
        # table.
        summary = f"{counted(rejected, 'record')} could not be readings; why was not read: {exc}"
        return summary, metadata
    letters = [item.letter for item in found if _is_of(item.letter, topic, ranges)]
    reasons = Counter(letter.reason for letter in letters)
    kept = sum(mark.last_stable - mark.low for mark in marks)
    said = ", ".join(f"{reason} ({count:,})" for reason, count in reasons.most_common())
    summary = f"{counted(rejected, 'record')} could not be readings: {said or 'reasons not read'}"
    if len(letters) < rejected:
        summary += f", of the newest {len(letters):,}"
    metadata |= {"kept": kept, **dict(sorted(reasons.items()))}
    metadata["newest"] = dg.MetadataValue.md(_letter_table(letters, rejected))
    return f"{summary}. {kept:,} are kept in {dead_letter_topic}", metadata


def _is_of(letter: StoredLetter, topic: str, ranges: Sequence[OffsetRange]) -> bool:
    source = letter.source
    return source.topic == topic and any(
        item.partition == source.partition and item.start <= source.offset < item.end
        for item in ranges
    )


def _letter_table(letters: Sequence[StoredLetter], rejected: int) -> str:
    rows = [
        (
            sender_of(letter) or "(unknown)",
            letter.reason,
            letter.message,
        )
        for letter in letters[:_SHOWN_LETTERS]
    ]
    return DeviceTable(("device", "reason", "why"), rows, rejected - len(rows)).markdown()
