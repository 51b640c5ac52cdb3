"""Rows packed once into the bytes of a BATCH frame, past the driver's binding of every value.

The driver needs 10 to 14 µs to bind a row; packed it is one `struct` call. Everything around the
rows (header, consistency, timestamp, retries, routing) is still the driver's own: the bytes are
spliced in through `session.client_protocol_handler`, its documented extension point. One
private attribute is touched, so the driver's minor version is pinned, and every session is
probed: whatever is not as pinned means the plain path of `reading_store`, said once.
"""

import io
import logging
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import cassandra
import numpy as np
from cassandra.protocol import BatchMessage, ProtocolHandler
from cassandra.query import BatchStatement, BatchType, PreparedStatement

from iot_pipeline.clients.cassandra import CassandraClient
from iot_pipeline.clients.cassandra_answers import DAY_ZERO, PendingAnswer
from iot_pipeline.clients.packed_rows import (
    PackedBlock,
    pack_device,
    pack_groups,
    partition_routing_key,
    statement_prefix,
)
from iot_pipeline.clients.reading_store import DEVICE_TTL_EXTRA_SECONDS, CassandraReadingStore
from iot_pipeline.clients.sensor_data import bound_row, columns_of
from iot_pipeline.core.reading.quantities import Quantity, QuantityType
from iot_pipeline.core.reading.row_groups import RowGroups, RowSlice
from iot_pipeline.core.reading.spans import bucket_of
from iot_pipeline.core.reading.write_times import first_us
from iot_pipeline.settings import Settings

_log = logging.getLogger(__name__)

PINNED_DRIVER = "3.30."
_PROTOCOL_VERSION = 4
# In a BATCH body the rows follow the batch's type (1 byte) and their number (2 bytes).
_HEAD_BYTES = 3
# Rows that are packed at once, about 3 ms: numpy's calls cost little each row, and Terminate and
# answers of Cassandra do not wait for long.
_ROWS_AT_ONCE = 20_000
# Text has any length, and is joined row by row.
_ROWS_WITH_TEXT_AT_ONCE = 1_000
# How long packed rows may wait to be sent where their TTL is in them.
_TTL_FRESH_SECONDS = 1.0


class PackedRows:
    """Stands where the driver keeps a batch's statements: their number, and their bytes.

    It iterates as empty, so the driver's own encoder writes the frame around the rows.
    """

    __slots__ = ("body", "count")

    def __init__(self, count: int, body: bytes) -> None:
        self.count, self.body = count, body

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Any]:
        return iter(())


class _Spliced:
    """A BATCH message whose body has the packed rows in their place."""

    def __init__(self, message: Any) -> None:
        self._message = message
        self.opcode = message.opcode
        self.custom_payload = message.custom_payload
        self.tracing = message.tracing

    def send_body(self, out: Any, protocol_version: int) -> None:
        frame = io.BytesIO()
        self._message.send_body(frame, protocol_version)
        around = frame.getvalue()
        out.write(around[:_HEAD_BYTES])
        out.write(self._message.queries.body)
        out.write(around[_HEAD_BYTES:])


class PackedProtocolHandler(ProtocolHandler):  # type: ignore[misc]
    """The driver's handler, except that it lets packed rows into a batch."""

    @classmethod
    def encode_message(cls, msg: Any, *args: Any, **kwargs: Any) -> bytes:
        """The frame of a message; the driver calls this for each it sends."""
        if type(getattr(msg, "queries", None)) is PackedRows:
            msg = _Spliced(msg)
        return super().encode_message(msg, *args, **kwargs)  # type: ignore[no-any-return]


def packed_batch(
    rows: PackedRows, routing_key: bytes, keyspace: str, consistency_level: int
) -> Any:
    """An UNLOGGED batch of packed rows that may be sent twice."""
    batch = BatchStatement(batch_type=BatchType.UNLOGGED, consistency_level=consistency_level)
    batch._statements_and_parameters = rows
    batch.routing_key = routing_key
    batch.keyspace = keyspace
    batch.is_idempotent = True
    return batch


class PackedReadingStore(CassandraReadingStore):
    """The same rows as `CassandraReadingStore`, for a fifth of its time in this process."""

    _session: Any = None
    _is_packing = False
    _row_prefix = b""
    _device_prefix = b""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Of rows that are being sent: what was packed last.
        self._types = [quantity.type for quantity in self._quantities]
        self._blocks: WeakKeyDictionary[RowGroups, PackedBlock] = WeakKeyDictionary()

    def send_rows(self, rows: RowSlice) -> PendingAnswer[Any]:
        if not self._can_pack():
            return super().send_rows(rows)

        def make() -> object:
            groups, first = rows.groups, rows.first
            device = groups.columns.codes.encoded[groups.codes[first]]
            routing_key = partition_routing_key(device, int(groups.days[first]))
            return self._batch(PackedRows(len(rows), self._bytes_of(rows)), routing_key)

        return self._client.start(make, self._doing(rows))

    def _bytes_of(self, rows: RowSlice) -> bytes:
        block = self._blocks.get(rows.groups)
        if block is not None and rows.first < block.first:
            # Sent again, long after its neighbours.
            return self._pack(rows, rows.end).of(rows)
        if block is None or block.end < rows.end or time.monotonic() > block.fresh_until:
            most = _ROWS_WITH_TEXT_AT_ONCE if "text" in self._types else _ROWS_AT_ONCE
            counts = rows.groups.counts[rows.first : rows.first + most]
            fit = int(np.searchsorted(np.cumsum(counts), most, side="right"))
            block = self._pack(rows, max(rows.end, rows.first + fit))
            self._blocks[rows.groups] = block
        return block.of(rows)

    def _pack(self, rows: RowSlice, end: int) -> PackedBlock:
        ttl_of = self._ttl_of_rows if self._retention.may_end else None
        block = pack_groups(self._row_prefix, rows.groups, rows.first, end, self._types, ttl_of)
        if ttl_of is not None:
            block.fresh_until = time.monotonic() + _TTL_FRESH_SECONDS
        return block

    def send_devices(self, day_number: int, devices: Mapping[str, int]) -> PendingAnswer[Any]:
        if not self._can_pack():
            return super().send_devices(day_number, devices)

        def make() -> object:
            body = [
                pack_device(
                    self._device_prefix,
                    device_id,
                    day_number,
                    produced_ms,
                    next(iter(self._ttl(device_id, produced_ms, DEVICE_TTL_EXTRA_SECONDS)), None),
                )
                for device_id, produced_ms in devices.items()
            ]
            packed = PackedRows(len(body), b"".join(body))
            # As the driver does: a batch goes where its first row belongs.
            bucket = bucket_of(next(iter(devices)))
            routing_key = struct.pack(">HIxHix", 4, day_number + DAY_ZERO, 4, bucket)
            return self._batch(packed, routing_key)

        return self._client.start(make, self._doing_devices(devices))

    def _can_pack(self) -> bool:
        session = self._client.session
        if session is not self._session:
            problem = self._begin_packing(session)
            self._session, self._is_packing = session, not problem
            if problem:
                _log.warning(
                    "packed write path: %s; rows go the driver's own way instead: slower, the "
                    "same cells. IOT_WRITE_PATH=driver says so without this warning",
                    problem,
                )
        return self._is_packing

    def _begin_packing(self, session: Any) -> str:
        """Make a new session pack; say what is not as pinned, or nothing."""
        row = self._client.prepare(self._insert_row)
        device = self._client.prepare(self._insert_device)
        problem = find_driver_problem(session)
        if problem:
            return problem
        # Beside the columns: the write time, and the TTL where rows have one.
        more = 1 + self._retention.may_end
        self._blocks.clear()
        self._row_prefix = statement_prefix(row.query_id, len(columns_of(self._quantities)) + more)
        self._device_prefix = statement_prefix(device.query_id, 3 + more)
        problem = self._compare(row, device)
        if not problem:
            session.client_protocol_handler = PackedProtocolHandler
        return problem

    def _batch(self, rows: PackedRows, routing_key: bytes) -> Any:
        client = self._client
        return packed_batch(rows, routing_key, client.keyspace, client.write_consistency)

    def _compare(self, row: PreparedStatement, device: PreparedStatement) -> str:
        """Pack a sample and let the driver encode the same one; say what differs, or nothing."""
        ttl = (77,) if self._retention.may_end else ()
        name, day, ms, write_time = "probe-é", 20_000, 1_735_444_918_316, 1_735_444_918_316_007
        values = [_sample(cql_type, number) for number, cql_type in enumerate(self._types)]
        theirs = BatchStatement(batch_type=BatchType.UNLOGGED)
        theirs.add(row, bound_row(name, day, ms, write_time, values) + ttl)
        theirs.add(device, (day + DAY_ZERO, bucket_of(name), name, first_us(ms), *ttl))
        sample = RowSlice.of({(name, day): {ms: (write_time, 0, 7, *values)}})
        rows = pack_groups(
            self._row_prefix,
            sample.groups,
            0,
            1,
            self._types,
            (lambda ms, _: ms * 0 + 77) if ttl else None,
        ).of(sample)
        devices = pack_device(self._device_prefix, name, day, ms, 77 if ttl else None)
        routing_key = partition_routing_key(name.encode(), day)
        ours = self._batch(PackedRows(2, rows + devices), routing_key)
        if encode_batch(ours, PackedProtocolHandler) != encode_batch(theirs, ProtocolHandler):
            return f"driver {cassandra.__version__} encodes a batch otherwise than we do"
        if (ours.routing_key, ours.keyspace) != (theirs.routing_key, theirs.keyspace):
            return f"driver {cassandra.__version__} routes a batch otherwise than we do"
        return ""


def _sample(cql_type: QuantityType, number: int) -> float | str:
    """A value of a type, another one for each column: a changed order would show."""
    if cql_type == "text":
        return f"é{number}"
    if cql_type == "boolean":
        return number % 2 == 0
    return number - 1.5 if cql_type in ("double", "float") else number - 3


def find_driver_problem(session: Any, version: str = cassandra.__version__) -> str:
    """What about the driver is not as pinned, in words; nothing when all is."""
    if not version.startswith(PINNED_DRIVER):
        return f"cassandra-driver is {version}, {PINNED_DRIVER}x is what was pinned"
    if not hasattr(BatchStatement(), "_statements_and_parameters"):
        return "BatchStatement has no _statements_and_parameters"
    handler = session.client_protocol_handler
    if handler not in (ProtocolHandler, PackedProtocolHandler):
        return f"the session has a protocol handler of its own, {handler.__name__}"
    return ""


def encode_batch(batch: Any, handler: Any) -> bytes:
    """The frame the driver would send for a batch, by a protocol handler."""
    message = BatchMessage(batch.batch_type, batch._statements_and_parameters, 6, None, 1, None)
    frame: bytes = handler.encode_message(message, 1, _PROTOCOL_VERSION, None, False)
    return frame


def open_reading_store(
    client: CassandraClient, settings: Settings, quantities: Sequence[Quantity] | None = None
) -> CassandraReadingStore:
    """The store of rows that IOT_WRITE_PATH names; `quantities`: others than the settings'."""
    kind = PackedReadingStore if settings.write_path == "packed" else CassandraReadingStore
    return kind(client, quantities or settings.quantities, settings.retention)
