"""The probe that reads back rows just written: what it measures, and that it changes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from iot_pipeline.core.proof.read_back import StoredRow
from iot_pipeline.core.reading.row_groups import RowSlice
from iot_pipeline.core.reading.write_times import RowsByTime
from iot_pipeline.errors import CassandraUnavailableError, PipelineError
from iot_pipeline.stages.ingest.latency import PROBES_PER_SECOND, LatencyProbe
from iot_pipeline_tests.stages.fake_rows import FakeSensorData
from iot_pipeline_tests.stages.fakes import FakeStore

_MS = 1_735_444_918_000
_ROW = (_MS * 1000 + 17, 17, 0, 20.0, 50.0)
_ROWS: RowsByTime = {_MS - 60_000: _ROW}


@dataclass
class Answer:
    """An answer that a test gives when it likes."""

    found: list[tuple[int, StoredRow]] = field(default_factory=list)
    error: PipelineError | None = None
    answered_at: float = 0.0
    done: bool = False


@dataclass
class AnsweringReader(FakeSensorData):
    """Keeps every question; the test answers."""

    wanted: list[tuple[str, int, list[int]]] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    is_away: bool = False

    def start_times(self, device_id: str, day_number: int, times_ms: Sequence[int]) -> Any:
        if self.is_away:
            raise CassandraUnavailableError("away")
        self.wanted.append((device_id, day_number, list(times_ms)))
        self.answers.append(Answer())
        return self.answers[-1]

    def wait(self, timeout_seconds: float) -> None:
        raise AssertionError("a probe waits for nothing")


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def _answer(answer: Answer, written_us: int | None, after_seconds: float) -> None:
    if written_us is not None:
        answer.found = [(_MS - 60_000, (20.0, 50.0, written_us, written_us))]
    answer.answered_at = _MS / 1000 + after_seconds
    answer.done = True


def _probe() -> tuple[Any, AnsweringReader, Clock]:
    reader, clock = AnsweringReader(), Clock()
    return LatencyProbe(FakeStore(), reader, clock), reader, clock


def test_a_sample_is_the_time_from_the_brokers_timestamp_to_the_answer_that_holds_the_row() -> None:
    probe, reader, _ = _probe()
    write = probe.send_rows(RowSlice.of({("d", 20_086): _ROWS}))
    assert write.done
    assert reader.wanted == [("d", 20_086, [_MS - 60_000])]
    assert probe.take().samples == 0, "not answered yet"
    _answer(reader.answers[0], _ROW[0], 0.025)
    found = probe.take()
    assert (found.samples, round(found.highest_seconds, 6)) == (1, 0.025)
    assert probe.take().samples == 0, "each sample once"


def test_a_row_is_asked_for_only_when_its_write_is_acknowledged() -> None:
    probe, reader, _ = _probe()
    probe.store.looks_until_answered = 2
    write = probe.send_rows(RowSlice.of({("d", 20_086): _ROWS}))
    while not write.done:
        assert reader.wanted == []
    assert len(reader.wanted) == 1
    assert write.done
    assert len(reader.wanted) == 1, "once"


def test_an_older_row_or_none_is_no_sample_and_a_newer_one_is() -> None:
    for written_us, samples in ((None, 0), (_ROW[0] - 1, 0), (_ROW[0] + 1, 1)):
        probe, reader, _ = _probe()
        assert probe.send_rows(RowSlice.of({("d", 20_086): _ROWS})).done
        _answer(reader.answers[0], written_us, 0.01)
        assert probe.take().samples == samples
        assert probe.unreadable == 1 - samples


def test_probes_are_bounded_however_much_is_written() -> None:
    probe, reader, clock = _probe()
    for _ in range(10_000):
        assert probe.send_rows(RowSlice.of({("d", 20_086): _ROWS})).done
        clock.now += 0.0001
    assert len(reader.wanted) <= PROBES_PER_SECOND + 1, "a second of writes"
    for _ in range(1000):
        clock.now += 1
        assert probe.send_rows(RowSlice.of({("d", 20_086): _ROWS})).done
    assert len(reader.wanted) < 100, "nobody answered"


def test_a_reader_that_is_away_is_no_error_of_the_drain() -> None:
    probe, reader, _ = _probe()
    reader.is_away = True
    assert probe.send_rows(RowSlice.of({("d", 20_086): _ROWS})).done
    assert probe.unreadable == 1


def test_every_row_reaches_the_store_as_it_would_without_a_probe() -> None:
    probe, _, _ = _probe()
    probe.send_rows(RowSlice.of({("a", 20_086): _ROWS}))
    probe.send_rows(
        RowSlice.of(
            {(name, day): rows for name, day, rows in [("b", 20_086, _ROWS), ("c", 20_086, _ROWS)]}
        )
    )
    probe.send_devices(20_086, {"a": _MS})
    plain = FakeStore()
    plain.send_rows(RowSlice.of({("a", 20_086): _ROWS}))
    plain.send_rows(
        RowSlice.of(
            {(name, day): rows for name, day, rows in [("b", 20_086, _ROWS), ("c", 20_086, _ROWS)]}
        )
    )
    plain.send_devices(20_086, {"a": _MS})
    assert probe.store.rows() == plain.rows()
    assert probe.store.devices == plain.devices


def test_what_waited_for_the_run_is_not_measured() -> None:
    for since_seconds, asked in ((_MS / 1000 - 1, 1), (_MS / 1000 + 1, 0)):
        probe, reader, _ = _probe()
        probe.since_seconds = since_seconds
        assert probe.send_rows(RowSlice.of({("d", 20_086): _ROWS})).done
        assert len(reader.wanted) == asked
