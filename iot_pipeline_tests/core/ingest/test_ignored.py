"""What a declaration ignores is counted where it is ingested, and where it is audited."""

from iot_pipeline.core.ingest.micro_batch import MicroBatchBuilder
from iot_pipeline.core.ledger.chain import Counts, told_fates
from iot_pipeline.core.proof.log_reader import LogReader
from iot_pipeline.core.proof.stretches import RawRecords, Stretch
from iot_pipeline.core.reading.chunks import chunk_records
from iot_pipeline.core.reading.decoding import ReadingDecoder
from iot_pipeline.core.reading.messages import ReadingRules, Record
from iot_pipeline_tests.core.reading.declared import of_one

MS = 1_764_230_400_123
RULES = ReadingRules(of_one(ignore="[{path: kind, equals: status}]", device="key"))
VALUES = [
    b'{"t":1764230400,"x":1}',
    b'{"kind":"status"}',
    b'{"t":1764230400,"x":1000}',
    b'{"kind":"status","t":1764230400,"x":1}',
]


def test_an_ignored_message_is_a_fate_of_its_own() -> None:
    records = [Record(0, at, MS, b"d", value) for at, value in enumerate(VALUES)]
    builder = MicroBatchBuilder({0: 0}, ReadingDecoder(RULES))
    for chunk in chunk_records(records):
        builder.add(chunk)
    batch = builder.build({0: 5})
    counts = batch.counts[0]
    fates = counts.stored, counts.ignored, counts.rejected, counts.holes
    assert fates == (1, 2, 1, 1)
    assert counts.accounted == 5
    assert [letter.record.offset for letter in batch.dead_letters] == [2]
    assert "2 ignored" in str(counts)


def test_an_audit_reads_it_by_itself_with_the_key_where_that_is_the_device() -> None:
    stretch = Stretch(LogReader(RULES))
    places = range(len(VALUES))
    stretch.add(RawRecords([0] * 4, places, [MS] * 4, VALUES, (), [b"d"] * 4))
    assert (stretch.records, stretch.ignored, stretch.rejected) == (4, 2, [(0, 2)])
    assert [device for device, _ in stretch.groups] == ["d"]


def test_where_nothing_is_ignored_nothing_is_said_of_it() -> None:
    assert "ignored" not in told_fates(Counts(stored=1).by_fate())
    assert "ignored" not in str(Counts(stored=1))
