"""Sums that are kept say what the whole ledger says, whatever happened to it since."""

import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from iot_pipeline.clients.ledger_store import CassandraLedgerStore
from iot_pipeline.clients.ledger_sums import CassandraLedgerSums
from iot_pipeline.core.ledger.chain import LOSSES, Counts, LedgerEntry, Outcome
from iot_pipeline.core.ledger.sums import EntryPlace, LossPlace, place_of
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.stages.ledger.folding import fold_ledger
from iot_pipeline.stages.ledger.sums import KeptSums, keep_sums, keep_sums_in_passing
from iot_pipeline_tests.long_history import entries_until, write_ledger
from iot_pipeline_tests.pipeline import Pipeline

pytestmark = pytest.mark.services

NOW = datetime.now(UTC).replace(hour=12, minute=0)
PARTITIONS = range(2)
DAYS = [NOW.date() - timedelta(days=back) for back in range(-2, 40)]


@pytest.fixture
def entries(pipeline: Pipeline) -> list[LedgerEntry]:
    """30 folded days and 300 runs, whose ledger is written; nothing is kept of it yet."""
    entries = [
        entry
        for partition in PARTITIONS
        for entry in entries_until(pipeline.topic, partition, NOW, folded_days=30, runs=300)
    ]
    write(pipeline, entries)
    return entries


def write(pipeline: Pipeline, entries: Sequence[LedgerEntry]) -> None:
    client = pipeline.connections.cassandra
    write_ledger(client, pipeline.log.topic_id(pipeline.topic), entries)


def after(entries: Sequence[LedgerEntry], partition: int, runs: int) -> list[LedgerEntry]:
    """So many more runs, behind the newest entry of a Kafka partition."""
    last = max((e for e in entries if e.partition == partition), key=place_of)
    found = []
    for number in range(runs):
        start, at = last.end_offset + 7 * number, NOW + timedelta(seconds=5 * number)
        counts = Counts(7, stored_by_day={at.date(): 6, NOW.date() - timedelta(days=20): 1})
        found.append(
            replace(
                last, start_offset=start, end_offset=start + 7, counts=counts, updated_at=at,
                run_id=f"later-{number}", outcome=Outcome.INGESTED,
            )
        )  # fmt: skip
    return found


def by_day(source: CassandraLedgerStore | KeptSums, topic: str) -> dict[date, int]:
    total: Counter[date] = Counter()
    for part in source.stored_by_day(topic, PARTITIONS, DAYS):
        total.update(part)
    return {day: rows for day, rows in total.items() if rows}


def expired(source: CassandraLedgerStore | KeptSums, topic: str) -> list[LedgerEntry]:
    if isinstance(source, KeptSums):
        found = source.read_losses(topic, PARTITIONS)
    else:
        found = source.read_entries(topic, PARTITIONS, outcomes=LOSSES)
    return sorted(found, key=lambda entry: (entry.partition, place_of(entry)))


def ledgers_of(pipeline: Pipeline) -> tuple[CassandraLedgerStore, CassandraLedgerSums, str]:
    return pipeline.connections.ledger, pipeline.connections.ledger_sums, pipeline.topic


def check_equal(pipeline: Pipeline) -> dict[date, int]:
    whole = pipeline.connections.ledger
    kept = KeptSums(whole, pipeline.connections.ledger_sums)
    assert by_day(kept, pipeline.topic) == by_day(whole, pipeline.topic)
    assert expired(kept, pipeline.topic) == expired(whole, pipeline.topic)
    return by_day(kept, pipeline.topic)


def test_kept_sums_say_what_the_whole_ledger_says(
    pipeline: Pipeline, entries: list[LedgerEntry]
) -> None:
    ledger, sums, topic = ledgers_of(pipeline)
    check_equal(pipeline)
    keep_sums(ledger, sums, topic, PARTITIONS)
    assert {p: kept.until for p, kept in sums.read_sums(topic).items()} == {
        p: max(place_of(e) for e in entries if e.partition == p) for p in PARTITIONS
    }
    before = check_equal(pipeline)
    assert sum(before.values()) == sum(entry.counts.stored for entry in entries)

    later = [*entries, *after(entries, 0, 9)]
    lost = replace(after(later, 0, 1)[0], outcome=Outcome.EXPIRED, counts=Counts())
    write(pipeline, [*later[len(entries) :], lost, *after([*later, lost], 0, 3)])
    ledger.record_replay(
        topic, NOW, "again", [OffsetRange(1, 0, 5)], Counts(5, stored_by_day={NOW.date(): 5})
    )
    now = check_equal(pipeline)
    assert sum(now.values()) == sum(before.values()) + 7 * 12 + 5
    keep_sums(ledger, sums, topic, PARTITIONS)
    place = LossPlace(*place_of(lost), lost.end_offset)
    assert sums.read_sums(topic)[0].losses == (place,)
    assert check_equal(pipeline) == now
    assert [place_of(entry) for entry in expired(KeptSums(ledger, sums), topic)] == [place_of(lost)]


def test_the_past_is_not_asked_again(pipeline: Pipeline, entries: list[LedgerEntry]) -> None:
    ledger, sums, topic = ledgers_of(pipeline)
    keep_sums(ledger, sums, topic, PARTITIONS)
    kept = sums.read_sums(topic)[0]
    # Nothing but the kept sum can say this.
    sums.write_sum(topic, replace(kept, stored_by_day={DAYS[0]: 12_345}))
    assert by_day(KeptSums(ledger, sums), topic)[DAYS[0]] == 12_345
    keep_sums(ledger, sums, topic, PARTITIONS)
    assert by_day(KeptSums(ledger, sums), topic)[DAYS[0]] == 12_345
    keep_sums(ledger, sums, topic, PARTITIONS, is_afresh=True)
    check_equal(pipeline)


def test_a_sum_that_ends_where_nothing_begins_is_not_believed(
    pipeline: Pipeline, entries: list[LedgerEntry]
) -> None:
    ledger, sums, topic = ledgers_of(pipeline)
    keep_sums(ledger, sums, topic, PARTITIONS)
    write(pipeline, [entry for p in PARTITIONS for entry in after(entries, p, 5)])
    before = check_equal(pipeline)
    # Days later all of it is folded, and nothing begins any more where the sums ended.
    report = fold_ledger(ledger, topic, PARTITIONS, NOW + timedelta(days=5))
    assert report.after < report.before
    assert check_equal(pipeline) == before
    keep_sums(ledger, sums, topic, PARTITIONS)
    assert check_equal(pipeline) == before
    assert all(
        k.holds(ledger.read_at(topic, p, k.places)) for p, k in sums.read_sums(topic).items()
    )


def test_a_run_moves_a_sum_on_when_it_is_worth_it_and_never_reads_the_past(
    pipeline: Pipeline, entries: list[LedgerEntry]
) -> None:
    ledger, sums, topic = ledgers_of(pipeline)

    def pass_by() -> dict[int, EntryPlace]:
        recent = ledger.read_links(topic, PARTITIONS, NOW - timedelta(hours=1))
        keep_sums_in_passing(ledger, sums, topic, PARTITIONS, recent)
        return {p: kept.until for p, kept in sums.read_sums(topic).items()}

    assert pass_by() == {}, "who makes the first one reads all of it"
    keep_sums(ledger, sums, topic, PARTITIONS)
    first = pass_by()
    few = [entry for p in PARTITIONS for entry in after(entries, p, 150)]
    write(pipeline, few)
    assert pass_by() == first
    more = after([*entries, *few], 0, 60)
    write(pipeline, more)
    assert pass_by() == {0: place_of(more[-1]), 1: first[1]}
    check_equal(pipeline)


def test_two_topics_keep_apart(pipeline: Pipeline, entries: list[LedgerEntry]) -> None:
    ledger, sums, topic = ledgers_of(pipeline)
    keep_sums(ledger, sums, topic, PARTITIONS)
    assert sums.read_sums(f"other{uuid.uuid4().hex}") == {}
