"""The states of devices as they are kept between runs: bytes per device, in 64 shards."""

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from iot_pipeline.clients.cassandra import PendingAnswer, Table, all_rows, share_of, unlogged_batch

SHARDS = 64
_STATES = "{ks}.device_states"
_FLEET = (-1, "")
_READ = f"SELECT device_id, state FROM {_STATES} WHERE shard = ? LIMIT ?"
_READ_ONE = f"SELECT state FROM {_STATES} WHERE shard = ? AND device_id = ?"
_WRITE = f"INSERT INTO {_STATES} (shard, device_id, state) VALUES (?, ?, ?) USING TTL ?"
# Cassandra refuses a batch of 50 KiB; twenty of them on their way keep a node busy.
_BATCH_BYTES = 16 * 1024
_IN_FLIGHT = 20


class CassandraDeviceStates(Table):
    """A `DeviceStateStore`."""

    def read_fleet(self) -> bytes | None:
        rows = self._run(_READ_ONE, _FLEET, doing="reading what is kept of the fleet")
        # Now, not when a run that is ended keeps its states: preparing may take ten seconds.
        self._prepare(_WRITE)
        return rows[0].state if rows else None

    def read_some(self, most: int) -> tuple[dict[str, bytes], bool]:
        limit = max(2, 2 * most // SHARDS)
        sent = [
            self._start(
                _READ, (shard, limit), f"reading the states of devices, shard {shard}", all_rows
            )
            for shard in range(SHARDS)
        ]
        found: dict[str, bytes] = {}
        is_all = True
        for pending in sent:
            rows = self._client.finish(pending)
            is_all = is_all and len(rows) < limit
            found.update(rows)
        return found, is_all

    def start_read(self, device_id: str) -> PendingAnswer[bytes | None]:
        place = (shard_of(device_id), device_id)
        doing = f"reading the state of {device_id}"
        return self._start(_READ_ONE, place, doing, lambda rows: rows[0][0] if rows else None)

    def write_fleet(self, content: bytes, live_seconds: int, within_seconds: float) -> None:
        self._client.execute(
            self._cql(_WRITE),
            (*_FLEET, content, live_seconds),
            doing="keeping what is known of the fleet",
            timeout_seconds=within_seconds,
        )

    def write(
        self, states: Mapping[str, bytes], live_seconds: int, within_seconds: float
    ) -> Iterator[Sequence[str]]:
        """Keep states, each in the place of an earlier one; the devices whose are kept, by parts.

        It ends when the time is over: at most twenty batches are on their way then, which may
        still take effect.
        """
        deadline = time.monotonic() + within_seconds
        sent: deque[tuple[list[str], PendingAnswer[Any]]] = deque()
        parts = _parts(states)
        while True:
            while len(sent) < _IN_FLIGHT and (names := next(parts, None)) is not None:
                sent.append((names, self._send(names, states, live_seconds)))
            if not sent:
                return
            names, pending = sent[0]
            if pending.done:
                sent.popleft()
                if pending.error is not None:
                    raise pending.error
                yield names
            elif time.monotonic() > deadline:
                return
            else:
                self._client.wait(0.1)

    def _send(
        self, names: Sequence[str], states: Mapping[str, bytes], live_seconds: int
    ) -> PendingAnswer[Any]:
        shard = shard_of(names[0])

        def make() -> object:
            statement = self._prepare(_WRITE)
            batch = unlogged_batch()
            for name in names:
                batch.add(statement, (shard, name, states[name], live_seconds))
            return batch

        return self._client.start(make, f"keeping the states of {len(names)} devices")


def shard_of(device_id: str) -> int:
    """Which of the shards keeps a device."""
    return share_of(device_id, SHARDS)


def _parts(states: Mapping[str, bytes]) -> Iterator[list[str]]:
    """Names by shard, as many as fit into a batch."""
    part: list[str] = []
    size = 0
    for name in sorted(states, key=shard_of):
        if part and (shard_of(part[0]) != shard_of(name) or size > _BATCH_BYTES):
            yield part
            part, size = [], 0
        part.append(name)
        size += len(states[name]) + len(name)
    if part:
        yield part
