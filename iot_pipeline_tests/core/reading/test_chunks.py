"""Chunks are records in parallel lists: nothing is lost, and what is closed is found."""

from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.reading.chunks import RecordChunk, chunk_records
from iot_pipeline.core.reading.messages import Record

_bytes = st.none() | st.binary(max_size=20)
_headers = st.none() | st.lists(st.tuples(st.text(max_size=3), _bytes), max_size=2)


@st.composite
def _records(draw: st.DrawFn, partitions: int = 3) -> list[Record]:
    offset = 0
    records = []
    for _ in range(draw(st.integers(1, 20))):
        offset += draw(st.integers(1, 3))
        partition = draw(st.integers(0, partitions - 1))
        produced_ms = draw(st.integers(1, 4))
        records.append(
            Record(partition, offset, produced_ms, draw(_bytes), draw(_bytes), draw(_headers))
        )
    return records


def _one(records: list[Record]) -> RecordChunk:
    (chunk,) = chunk_records(records)
    return chunk


@given(_records())
def test_records_come_back_from_their_chunks_as_they_were(records: list[Record]) -> None:
    chunks = chunk_records(records)
    assert [record for chunk in chunks for record in chunk] == records
    assert sum(map(len, chunks)) == len(records)
    assert all(chunk.partition == record.partition for chunk in chunks for record in chunk)


@given(_records(partitions=1), st.integers(0, 20), st.integers(0, 20))
def test_a_part_holds_the_records_between_its_places(
    records: list[Record], start: int, stop: int
) -> None:
    assert list(_one(records).part(start, stop)) == records[start:stop]


@given(_records(partitions=1))
def test_the_newest_millisecond_begins_after_the_last_record_of_another(
    records: list[Record],
) -> None:
    others = [at for at, r in enumerate(records) if r.produced_ms != records[-1].produced_ms]
    assert _one(records).newest_start == (others[-1] + 1 if others else 0)


@given(_records(partitions=1))
def test_a_chunk_is_as_large_as_its_records(records: list[Record]) -> None:
    assert _one(records).size_bytes == sum(record.size_bytes for record in records)
