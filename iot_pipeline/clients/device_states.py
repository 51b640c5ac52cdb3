"""The states of devices as they are kept between runs: bytes per device, in 64 shards."""

from collections.abc import Iterator, Mapping
from typing import Any

from iot_pipeline.clients.cassandra_answers import PendingAnswer, all_rows
from iot_pipeline.clients.table import Table
from iot_pipeline.core.reading.spans import share_of

SHARDS = 64
_STATES = "{ks}.device_states"
_FLEET = (-1, "")
_READ = f"SELECT device_id, state FROM {_STATES} WHERE shard = ? LIMIT ?"
_READ_ONE = f"SELECT state FROM {_STATES} WHERE shard = ? AND device_id = ?"
_WRITE = f"INSERT INTO {_STATES} (shard, device_id, state) VALUES (?, ?, ?) USING TTL ?"
_DROP = f"DELETE FROM {_STATES} WHERE shard = ? AND device_id = ?"
# Cassandra refuses a batch of 50 KiB.
_BATCH_BYTES = 16 * 1024


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

    def count_states(self, device_id: str) -> int:
        """1 where one is kept."""
        return int(self._client.finish(self.start_read(device_id)) is not None)

    def delete_state(self, device_id: str) -> None:
        place = (shard_of(device_id), device_id)
        self._run(_DROP, place, doing=f"deleting the state of {device_id}")

    def write_fleet(self, content: bytes, live_seconds: int, within_seconds: float) -> None:
        self._run(
            _WRITE,
            (*_FLEET, content, live_seconds),
            doing="keeping what is known of the fleet",
            timeout_seconds=within_seconds,
        )

    def in_batches(self, states: Mapping[str, bytes]) -> Iterator[dict[str, bytes]]:
        part: dict[str, bytes] = {}
        size, shard = 0, None
        for name in sorted(states, key=shard_of):
            if part and (shard != shard_of(name) or size > _BATCH_BYTES):
                yield part
                part, size = {}, 0
            part[name], shard = states[name], shard_of(name)
            size += len(states[name]) + len(name)
        if part:
            yield part

    def start_write(self, part: Mapping[str, bytes], live_seconds: int) -> PendingAnswer[Any]:
        rows = ((shard_of(name), name, state, live_seconds) for name, state in part.items())
        doing = f"keeping the states of {len(part)} devices"
        return self._send(((_WRITE, row) for row in rows), doing)


def shard_of(device_id: str) -> int:
    """Which of the shards keeps a device."""
    return share_of(device_id, SHARDS)
