"""Records of a millisecond that may go on: held back, or kept to compete with what follows."""

from collections.abc import Iterable

from iot_pipeline.core.reading.chunks import RecordChunk


class OpenMilliseconds:
    """Each partition's newest broker millisecond: records held back, and records settled.

    Held: not given out yet. Settled: given out, and kept to be compared with what follows.

    LogAppendTime gives thousands of records one millisecond. Records of one key there may have one
    write time, and of two such rows Cassandra keeps the larger value of each cell: a row that no
    device sent. So they have to meet in memory. Records are held until a later millisecond begins;
    those that had to be given out before compete once more with what comes after them.
    """

    def __init__(self, settled: Iterable[RecordChunk] = ()) -> None:
        """Begin with records that were settled by an earlier run, of one millisecond each."""
        self._open: dict[int, list[RecordChunk]] = {}
        self._records: dict[int, int] = {}
        self._bytes: dict[int, int] = {}
        self._settled: dict[int, list[RecordChunk]] = {}
        for chunk in settled:
            self.settle(chunk)

    def pass_closed(self, chunk: RecordChunk) -> list[RecordChunk]:
        """Take records of one partition in; give back those whose millisecond is closed."""
        partition = chunk.partition
        held = self._open.get(partition, [])
        cut = chunk.newest_start
        newest = chunk.part(cut, len(chunk))
        if cut == 0 and held and held[0].produced_ms[0] == newest.produced_ms[0]:
            held.append(newest)
            self._records[partition] += len(newest)
            self._bytes[partition] += newest.size_bytes
            return []
        self._open[partition] = [newest]
        self._records[partition] = len(newest)
        self._bytes[partition] = newest.size_bytes
        return [*held, chunk.part(0, cut)] if cut else held

    def release(self, partition: int) -> list[RecordChunk]:
        """Give back what is held of a partition, though its millisecond may go on."""
        self._bytes.pop(partition, None)
        self._records.pop(partition, None)
        return self._open.pop(partition, [])

    def settle(self, chunk: RecordChunk) -> None:
        """Remember records of one millisecond, for those of it that come after them."""
        self._settled[chunk.partition] = [*self.rivals_of(chunk), chunk]

    def rivals_of(self, chunk: RecordChunk) -> list[RecordChunk]:
        """The records settled before of the millisecond that these records begin with."""
        settled = self._settled.get(chunk.partition, [])
        if settled and settled[0].produced_ms[0] != chunk.produced_ms[0]:
            del self._settled[chunk.partition]
            return []
        return settled

    def forget(self, partition: int, more_than_bytes: int) -> bool:
        """Drop what was settled of a partition, if it is more than this; whether it was."""
        settled = self._settled.get(partition, [])
        if sum(chunk.size_bytes for chunk in settled) <= more_than_bytes:
            return False
        del self._settled[partition]
        return True

    def held(self, partition: int) -> int:
        return self._records.get(partition, 0)

    @property
    def total(self) -> int:
        return sum(self._records.values())

    @property
    def total_bytes(self) -> int:
        return sum(self._bytes.values())

    def next_offsets(self) -> dict[int, int]:
        """The first offset held back, per partition that holds any."""
        return {partition: held[0].offsets[0] for partition, held in self._open.items()}
