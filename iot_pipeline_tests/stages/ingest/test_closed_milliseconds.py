"""Following, a row is written when the log's end was seen, or its millisecond is over."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import uuid4

from iot_pipeline.core.ledger.chain import Commit
from iot_pipeline.core.reading.chunks import RecordChunk, chunk_records
from iot_pipeline.core.reading.messages import Reading, Record
from iot_pipeline.core.reading.offsets import Checkpoint, OffsetRange, PartitionState, TopicInfo
from iot_pipeline.core.reading.row_groups import RowSlice
from iot_pipeline.errors import OffsetsExpiredError, PipelineError
from iot_pipeline.stages.ingest.config import DrainConfig, Ports
from iot_pipeline.stages.ingest.drain import drain
from iot_pipeline.stages.ingest.following import Follow, open_ended
from iot_pipeline.stages.ingest.planning import Plan
from iot_pipeline.stages.ingest.progress import DrainProgress
from iot_pipeline.stages.ports.ledger import Run
from iot_pipeline_tests.core.reading.encoded import encode_reading

_SECONDS = 1_735_444_800.0
_Turn = tuple[list[Record], bool]


@dataclass
class _Done:
    done: bool = True
    error: None = None
    applied: bool = True


@dataclass
class _World:
    """Every port at once, as far as following goes; `script` is what each poll brings.

    `now` is its clock: polls take time, and nothing else does.
    """

    script: list[_Turn]
    now: float = 0.0
    journal: list[tuple[str, object]] = field(default_factory=list)
    finished: frozenset[int] = frozenset()
    at_end: dict[int, int] = field(default_factory=dict)
    end: int = 0
    stopped: dict[int, PipelineError] = field(default_factory=dict)

    def topic_id(self, topic: str) -> str:
        return "id"

    def read_entries(self, topic: str, partitions: Sequence[int], limit: int) -> list[object]:
        return []

    def mirror(self, topic: str, next_offsets: Mapping[int, int]) -> None:
        return

    def find_skipped(self, topic: str, holes: Sequence[OffsetRange]) -> list[tuple[int, int]]:
        return []

    def open_ranges(self, topic: str, ranges: Sequence[OffsetRange]) -> "_World":
        return self

    def close(self) -> None:
        return

    def poll(self, timeout_seconds: float) -> list[Record]:
        if not self.script:
            self.now += timeout_seconds
            return []
        self.now += 0.0001
        records, is_at_end = self.script.pop(0)
        if records:
            self.end = records[-1].offset + 1
        self.at_end = {0: self.end} if is_at_end else {}
        return records

    def poll_chunks(self, timeout_seconds: float) -> list[RecordChunk]:
        return chunk_records(self.poll(timeout_seconds))

    def send_rows(self, rows: RowSlice) -> _Done:
        written = [row[1] for _, of_place in rows.items() for row in of_place.values()]
        self.journal.append(("rows", written))
        return _Done()

    def send_devices(self, day_number: int, devices: Mapping[str, int]) -> _Done:
        return _Done()

    def send_commit(self, commit: Commit) -> _Done:
        self.journal.append(("commit", commit.end))
        return _Done()

    def wait(self, timeout_seconds: float) -> None:
        return

    def deliver(self, topic: str, topic_id: str, letters: Sequence[object]) -> None:
        self.journal.append(("letters", len(letters)))


def _record(offset: int, produced_ms: int, value: bytes | None = None) -> Record:
    reading = Reading("d", _SECONDS, 20.0, float(offset))
    return Record(0, offset, produced_ms, b"d", value or encode_reading(reading))


def _follow(
    world: _World,
    seconds: float = 0.3,
    should_stop: Callable[[], bool] = lambda: False,
    commit_seconds: float = 0.0,
) -> DrainProgress:
    state = PartitionState("t", 0, 0, 0, 0)
    plan = Plan(TopicInfo("t", "id", 1, {}), {0: Checkpoint(0, 0, 0, "id")}, [state], [], [])
    how = Follow(
        seconds,
        linger_seconds=0.0,
        commit_seconds=commit_seconds,
        should_stop=should_stop,
        clock=lambda: world.now,
    )
    ports = Ports(world, world, world, world)  # type: ignore[arg-type]
    return drain(open_ended(plan), ports, Run("run", uuid4()), DrainConfig(follow=how))


def test_a_record_waits_until_the_end_of_the_log_was_seen() -> None:
    world = _World([([_record(0, 1000)], False)])
    assert _follow(world).done_offsets == 0
    assert world.journal == []


def test_at_the_end_of_the_log_it_is_written_at_once() -> None:
    world = _World([([_record(0, 1000)], True)])
    assert _follow(world).done_offsets == 1
    assert world.journal == [("rows", [0]), ("commit", 1)]


def test_holes_at_the_end_of_the_log_are_passed_before_another_record_comes() -> None:
    world = _World([([_record(0, 1000)], True)])
    original = world.poll

    def poll(timeout_seconds: float) -> list[Record]:
        records = original(timeout_seconds)
        # An aborted transaction after the record: the log's end moves, no record comes.
        world.at_end = {0: 5}
        return records

    world.poll = poll
    progress = _follow(world)
    assert progress.done_offsets == 5
    assert (progress.total.stored, progress.total.holes) == (1, 4)
    assert world.journal[-1] == ("commit", 5)


def test_a_log_that_ends_in_nothing_but_holes_is_passed_too() -> None:
    world = _World([([], True)])
    world.end = 3
    assert _follow(world).total.holes == 3
    assert world.journal == [("commit", 3)]


def test_a_record_knows_those_of_its_millisecond_that_were_written_before() -> None:
    # Of equal write times the first stays: the record 62 offsets on is not written over it.
    same_us, other = _record(62, 1000), _record(63, 1001)
    world = _World([([_record(0, 1000)], True), ([same_us], True), ([other], True)])
    progress = _follow(world)
    assert [rows for kind, rows in world.journal if kind == "rows"] == [[0], [63]]
    assert (progress.total.stored, progress.total.superseded) == (2, 1)


def test_a_later_record_closes_the_millisecond_without_any_wait() -> None:
    world = _World([([_record(0, 1000), _record(1, 1001)], False)])
    assert _follow(world).done_offsets == 1
    assert world.journal == [("rows", [0]), ("commit", 1)]


def test_letters_are_delivered_before_the_checkpoint_moves_and_slices_share_a_commit() -> None:
    turns: list[_Turn] = []
    for offset in range(0, 60, 2):
        turns.append(([_record(offset, offset, b"{"), _record(offset + 1, offset + 1)], True))
        turns += [([], True)] * 1000
    world = _World(turns)
    progress = _follow(world, seconds=0.6, commit_seconds=10.0)
    kinds = [kind for kind, _ in world.journal]
    assert kinds[-1] == "commit"
    assert kinds.count("commit") <= 2, "the first at once, the last at the end"
    for at, kind in enumerate(kinds):
        if kind == "commit":
            assert "letters" in kinds[:at]
    assert world.journal[-1] == ("commit", progress.done_offsets)
    assert progress.total.accounted == progress.done_offsets


def test_a_run_that_is_asked_to_stop_ends_at_once_with_its_rows_committed() -> None:
    world = _World([([_record(0, 1000), _record(1, 1001)], False)])
    original, polls_after = world.poll, []

    def should_stop() -> bool:
        return any(kind == "rows" for kind, _ in world.journal)

    def poll(timeout_seconds: float) -> list[Record]:
        if should_stop():
            polls_after.append(timeout_seconds)
        return original(timeout_seconds)

    world.poll = poll
    progress = _follow(world, seconds=60.0, should_stop=should_stop)
    assert len(polls_after) <= 2, "of the hundreds of a minute"
    assert progress.done_offsets == 1


def test_what_was_written_before_records_expired_is_committed_with_its_letters() -> None:
    records = [_record(0, 1000), _record(1, 1001, b"{"), _record(2, 1002)]
    world = _World([([record], True) for record in records])
    original = world.poll

    def poll(timeout_seconds: float) -> list[Record]:
        if world.script:
            return original(timeout_seconds)
        world.stopped = {0: OffsetsExpiredError("reading t[0] at 3: deleted")}
        return []

    world.poll = poll
    progress = _follow(world, seconds=30.0, commit_seconds=10.0)
    assert progress.stopped == world.stopped
    assert world.journal[-2:] == [("letters", 1), ("commit", 3)]
