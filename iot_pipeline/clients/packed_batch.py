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
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import cassandra
from cassandra.protocol import BatchMessage, ProtocolHandler
from cassandra.query import BatchStatement, BatchType, PreparedStatement

from iot_pipeline.clients.cassandra import DAY_ZERO, CassandraClient, PendingAnswer
from iot_pipeline.clients.reading_store import DEVICE_TTL_EXTRA_SECONDS, CassandraReadingStore
from iot_pipeline.clients.sensor_data import COLUMNS, VALUES
from iot_pipeline.core.reading.spans import bucket_of
from iot_pipeline.core.reading.write_times import RowsByTime, arrived_ms, first_us
from iot_pipeline.settings import Settings

_log = logging.getLogger(__name__)

PINNED_DRIVER = "3.30."
_PROTOCOL_VERSION = 4
# In a BATCH body the rows follow the batch's type (1 byte) and their number (2 bytes).
_HEAD_BYTES = 3
_PREPARED = 1

_pack_head = struct.Struct(">BH").pack
_pack_short = struct.Struct(">H").pack
_pack_int = struct.Struct(">i").pack
_pack_day = struct.Struct(">iI").pack


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


def statement_prefix(query_id: bytes, values: int) -> bytes:
    """What every row of one prepared statement begins with in a batch."""
    return _pack_head(_PREPARED, len(query_id)) + query_id + _pack_short(values)


# Each value is its length (always 4 or 8 bytes here) and itself, big-endian. The length of the
# first, the timestamp, stands at the end of what every row begins with.
_LENGTH_8 = b"\0\0\0\x08"
_ROW = ">q" + "id" * len(VALUES) + "iq"
# A loop over the quantities would cost a row as much as all the rest, so both are made once, as if
# they were written by hand: of two quantities a and b `pack(ms, 8, a, 8, b, 8, write_time)`.
_NAMES = ", ".join(VALUES)
_LENGTHS_AND_VALUES = ", ".join(f"8, {name}" for name in VALUES)
_pack_all = eval(
    f"lambda pack, rows: [pack(ms, {_LENGTHS_AND_VALUES}, 8, write_time) "
    f"for ms, (write_time, _, _, {_NAMES}) in rows.items()]"
)
_pack_all_with_ttl = eval(
    f"lambda pack, rows, ttl_of: [pack(ms, {_LENGTHS_AND_VALUES}, 8, write_time, 4, "
    f"ttl_of(arrived_ms(write_time))) for ms, (write_time, _, _, {_NAMES}) in rows.items()]",
    {"arrived_ms": arrived_ms},
)
_pack_row = struct.Struct(_ROW).pack
_pack_row_with_ttl = struct.Struct(_ROW + "ii").pack


def pack_rows(
    prefix: bytes,
    device: bytes,
    day_number: int,
    rows: RowsByTime,
    ttl_of: Callable[[int], int] | None = None,
) -> bytes:
    """Rows of one Cassandra partition, as they stand in the body of a BATCH.

    Args:
        prefix: that of the prepared statement.
        device: device_id in UTF-8.
        day_number: days since 1970.
        rows: not empty.
        ttl_of: seconds to live for a Kafka timestamp in ms; None: the statement has no TTL.
    """
    start = prefix + _pack_int(len(device)) + device + _pack_day(4, day_number + DAY_ZERO)
    start += _LENGTH_8
    if ttl_of is None:
        packed = _pack_all(_pack_row, rows)
    else:
        packed = _pack_all_with_ttl(_pack_row_with_ttl, rows, ttl_of)
    # The start is copied by join: as an argument of every row's pack it costs twice as much.
    return start + start.join(packed)


def pack_device(
    prefix: bytes, device_id: str, day_number: int, produced_ms: int, ttl: int | None
) -> bytes:
    """One device of a day, as it stands in the body of a BATCH."""
    device = device_id.encode()
    place = struct.pack(">iIii", 4, day_number + DAY_ZERO, 4, bucket_of(device_id))
    head = prefix + place + _pack_int(len(device)) + device
    if ttl is None:
        return head + struct.pack(">iq", 8, first_us(produced_ms))
    return head + struct.pack(">iqii", 8, first_us(produced_ms), 4, ttl)


def partition_routing_key(device: bytes, day_number: int) -> bytes:
    """The token's input for (device_id, day): each component with its length and a zero."""
    day = struct.pack(">HIx", 4, day_number + DAY_ZERO)
    return _pack_short(len(device)) + device + b"\0" + day


class PackedReadingStore(CassandraReadingStore):
    """The same rows as `CassandraReadingStore`, for a fifth of its time in this process."""

    _session: Any = None
    _is_packing = False
    _row_prefix = b""
    _device_prefix = b""

    def send_merged(self, groups: Sequence[tuple[str, int, RowsByTime]]) -> PendingAnswer[Any]:
        if not self._can_pack():
            return super().send_merged(groups)
        ttl_of = self._ttl_seconds if self._retention_ms else None

        def make() -> object:
            body, count, routing_key = [], 0, b""
            for device_id, day_number, rows in groups:
                device = device_id.encode()
                routing_key = routing_key or partition_routing_key(device, day_number)
                body.append(pack_rows(self._row_prefix, device, day_number, rows, ttl_of))
                count += len(rows)
            packed = PackedRows(count, b"".join(body))
            return self._batch(packed, routing_key)

        return self._client.start(make, self._doing(groups))

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
                    self._ttl_seconds(produced_ms, DEVICE_TTL_EXTRA_SECONDS)
                    if self._retention_ms
                    else None,
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
        more = 1 + bool(self._retention_ms)
        self._row_prefix = statement_prefix(row.query_id, len(COLUMNS) + more)
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
        ttl = (77,) if self._retention_ms else ()
        name, day, ms, write_time = "probe-é", 20_000, 1_735_444_918_316, 1_735_444_918_316_007
        values = [number - 1.5 for number in range(len(VALUES))]
        row_of_sample: Any = (write_time, 0, 7, *values)
        theirs = BatchStatement(batch_type=BatchType.UNLOGGED)
        theirs.add(row, (name, day + DAY_ZERO, ms, *values, write_time, *ttl))
        theirs.add(device, (day + DAY_ZERO, bucket_of(name), name, ms * 1000, *ttl))
        rows = pack_rows(
            self._row_prefix,
            name.encode(),
            day,
            {ms: row_of_sample},
            (lambda _: 77) if ttl else None,
        )
        devices = pack_device(self._device_prefix, name, day, ms, 77 if ttl else None)
        routing_key = partition_routing_key(name.encode(), day)
        ours = self._batch(PackedRows(2, rows + devices), routing_key)
        if encode_batch(ours, PackedProtocolHandler) != encode_batch(theirs, ProtocolHandler):
            return f"driver {cassandra.__version__} encodes a batch otherwise than we do"
        if (ours.routing_key, ours.keyspace) != (theirs.routing_key, theirs.keyspace):
            return f"driver {cassandra.__version__} routes a batch otherwise than we do"
        return ""


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


def open_reading_store(client: CassandraClient, settings: Settings) -> CassandraReadingStore:
    """The store of rows that IOT_WRITE_PATH names."""
    kind = PackedReadingStore if settings.write_path == "packed" else CassandraReadingStore
    return kind(client, settings.retention_days)
