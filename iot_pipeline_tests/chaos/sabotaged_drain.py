"""Drains that break one promise each, so that the oracle can be seen to notice.

    python -m iot_pipeline_tests.chaos.sabotaged_drain KIND

Everything else is `iot drain`. The sabotage sits in wrappers around ports and in one name that is
replaced, so the package has no hook for it. `pause`, `kill-server` and `rows-at-quorum` break
nothing of ours: the first two stop between the rows' acknowledgement and the conditional write, the
second with the server that SERVER_PID names killed at that very moment, the third before the rows.
"""

import dataclasses
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cassandra import ConsistencyLevel

from iot_pipeline.cli.runs import new_cli_run
from iot_pipeline.connections import drain_config, open_connections
from iot_pipeline.core.ingest.open_milliseconds import OpenMilliseconds
from iot_pipeline.core.ledger.chain import Commit
from iot_pipeline.core.reading.chunks import RecordChunk
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.reading.row_groups import RowSlice
from iot_pipeline.core.reading.write_times import RowsByTime, arrived_ms, first_us
from iot_pipeline.settings import Settings
from iot_pipeline.stages.ingest import micro_batch
from iot_pipeline.stages.ingest.config import Ports
from iot_pipeline.stages.ingest.drain import drain
from iot_pipeline.stages.ingest.planning import make_plan

SERVER_PID = "CHAOS_SERVER_PID"


class Acknowledged:
    """The answer of a write that nobody made."""

    done, error, applied = True, None, True


class Wrapped:
    """A port, all of whose other methods are the real ones."""

    def __init__(self, port: Any) -> None:
        self._port = port

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)


class RowsLater(Wrapped):
    """Says that rows are acknowledged before they are sent: they would follow the checkpoint."""

    def send_rows(self, rows: RowSlice) -> Acknowledged:
        return Acknowledged()

    def send_devices(self, day_number: int, devices: Mapping[str, int]) -> Acknowledged:
        return Acknowledged()


class DiesCommitted(Wrapped):
    """Killed when the first conditional writes of a micro-batch have happened."""

    def send_commit(self, commit: Commit) -> Any:
        pending = self._port.send_commit(commit)
        while not pending.done:
            self._port.wait(0.1)
        os.kill(os.getpid(), signal.SIGKILL)
        return pending


class DropsOneRow(Wrapped):
    """Forgets one row, once, and says that it is there."""

    _dropped = False

    def send_rows(self, rows: RowSlice) -> Any:
        if not self._dropped:
            self._dropped = True
            (place, of_place), *others = rows.items()
            rows = RowSlice.of({place: dict(list(of_place.items())[1:]), **dict(others)})
        return self._port.send_rows(rows)


class Pauses(Wrapped):
    """Stops the process before the k-th conditional write, until somebody continues it.

    Those before it are decided first: one that is still on its way while we sleep would fence
    whoever overtakes, or be fenced itself, as chance has it.
    """

    def __init__(
        self, port: Any, at_call: int, before: Callable[[], object] = lambda: None
    ) -> None:
        super().__init__(port)
        self._left, self._before = at_call, before
        self._sent: list[Any] = []

    def send_commit(self, commit: Commit) -> Any:
        self._left -= 1
        if self._left == 0:
            while not all(pending.done for pending in self._sent):
                self._port.wait(0.1)
            self._before()
            os.kill(os.getpid(), signal.SIGSTOP)
        pending = self._port.send_commit(commit)
        self._sent.append(pending)
        return pending


class StopsBeforeRows(Wrapped):
    """Stops the process before its first rows are sent, until somebody continues it."""

    _has_stopped = False

    def send_rows(self, rows: RowSlice) -> Any:
        if not self._has_stopped:
            self._has_stopped = True
            os.kill(os.getpid(), signal.SIGSTOP)
        return self._port.send_rows(rows)


class Unfenced(Wrapped):
    """The conditional write with a condition that always holds: whatever is there is expected."""

    def send_commit(self, commit: Commit) -> Any:
        found = self._port.read_checkpoints(commit.topic, [commit.partition])
        expected = found[commit.partition].next_offset
        return self._port.send_commit(dataclasses.replace(commit, expected=expected))


class AlwaysClosed(OpenMilliseconds):
    """Holds nothing back: records of one broker millisecond meet in Cassandra."""

    def pass_closed(self, chunk: RecordChunk) -> list[RecordChunk]:
        return [chunk]

    def rivals_of(self, chunk: RecordChunk) -> list[RecordChunk]:
        return []


class Sips(Wrapped):
    """A source that gives a few records at a time, so that micro-batches end where they should."""

    def __init__(self, port: Any, most: int) -> None:
        super().__init__(port)
        self._most, self._held = most, list[RecordChunk]()

    def poll_chunks(self, timeout_seconds: float) -> list[RecordChunk]:
        if not self._held:
            self._held = self._port.poll_chunks(timeout_seconds)
        if not self._held:
            return []
        first, *others = self._held
        rest = [first.part(self._most, len(first))] if len(first) > self._most else []
        self._held = rest + others
        return [first.part(0, self._most)]

    @property
    def finished(self) -> frozenset[int]:
        return frozenset() if self._held else self._port.finished


class SipsFrom(Wrapped):
    """A log whose sources give a few records at a time."""

    def open_ranges(self, topic: str, ranges: Sequence[OffsetRange]) -> Sips:
        return Sips(self._port.open_ranges(topic, ranges), most=500)


class SameTimes(Wrapped):
    """Write times without the offset: all of a broker millisecond have one."""

    def send_rows(self, rows: RowSlice) -> Any:
        return self._port.send_rows(
            RowSlice.of({place: _without_offset(of_place) for place, of_place in rows.items()})
        )


def _without_offset(rows: RowsByTime) -> RowsByTime:
    return {ms: (first_us(arrived_ms(row[0])), *row[1:]) for ms, row in rows.items()}


def _checkpoint_first(ports: Ports) -> Ports:
    return dataclasses.replace(
        ports, store=RowsLater(ports.store), ledger=DiesCommitted(ports.ledger)
    )


def _pause(ports: Ports) -> Ports:
    return dataclasses.replace(ports, ledger=Pauses(ports.ledger, 1))


def _kill_server(ports: Ports) -> Ports:
    def kill() -> None:
        os.kill(int(os.environ[SERVER_PID]), signal.SIGKILL)

    return dataclasses.replace(ports, ledger=Pauses(ports.ledger, 1, kill))


def _unfenced(ports: Ports) -> Ports:
    # Before its second commit: its ledger row then begins where the one that overtook it does not,
    # or the zombie would write over that row and leave no trace.
    return dataclasses.replace(ports, ledger=Pauses(Unfenced(ports.ledger), 2))


def _dropped_insert(ports: Ports) -> Ports:
    return dataclasses.replace(ports, store=DropsOneRow(ports.store))


def _open_milliseconds(ports: Ports) -> Ports:
    vars(micro_batch)["OpenMilliseconds"] = AlwaysClosed
    return dataclasses.replace(ports, log=SipsFrom(ports.log))


def _write_time_without_offset(ports: Ports) -> Ports:
    ports = _open_milliseconds(ports)
    return dataclasses.replace(ports, store=SameTimes(ports.store))


def _rows_at_quorum(ports: Ports) -> Ports:
    return dataclasses.replace(ports, store=StopsBeforeRows(ports.store))


def _rows_at_one(ports: Ports) -> Ports:
    # The settings refuse it.
    vars(ports.ledger)["_client"].write_consistency = ConsistencyLevel.ONE
    return _rows_at_quorum(ports)


KINDS: dict[str, Callable[[Ports], Ports]] = {
    "checkpoint-first": _checkpoint_first,
    "pause": _pause,
    "kill-server": _kill_server,
    "unfenced": _unfenced,
    "dropped-insert": _dropped_insert,
    "open-milliseconds": _open_milliseconds,
    "write-time-without-offset": _write_time_without_offset,
    "rows-at-quorum": _rows_at_quorum,
    "rows-at-one": _rows_at_one,
}
# Micro-batches end where the test wants it: neither a slow machine nor many devices move that.
SIZES = {"micro_batch_seconds": 600.0, "micro_batch_bytes": 0}


def main(kind: str) -> None:
    settings = Settings.from_env()
    with open_connections(settings) as connections:
        plan = make_plan(connections.log, connections.ledger, settings.topic)
        ports = KINDS[kind](connections.ports)
        config = dataclasses.replace(drain_config(settings), **SIZES)  # type: ignore[arg-type]
        drain(plan, ports, new_cli_run(), config)


if __name__ == "__main__":
    main(sys.argv[1])
