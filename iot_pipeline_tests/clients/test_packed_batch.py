"""Packed rows are the driver's bytes, to the last one; no server is needed to see it."""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from cassandra.cqltypes import (
    BooleanType,
    DateType,
    DoubleType,
    FloatType,
    Int32Type,
    LongType,
    SimpleDateType,
    UTF8Type,
)
from cassandra.protocol import BatchMessage, ProtocolHandler
from cassandra.query import BatchStatement, BatchType, PreparedStatement
from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.clients import packed_batch
from iot_pipeline.clients.cassandra import CassandraClient
from iot_pipeline.clients.packed_batch import (
    PackedProtocolHandler,
    PackedReadingStore,
    encode_batch,
    find_driver_problem,
    open_reading_store,
)
from iot_pipeline.clients.packed_rows import pack_groups
from iot_pipeline.clients.reading_store import CassandraReadingStore
from iot_pipeline.core.ingest.requests import requests_of
from iot_pipeline.core.reading.groups import DeviceGroup
from iot_pipeline.core.reading.quantities import QUANTITIES, Quantity, QuantityType
from iot_pipeline.core.reading.retention import Retention
from iot_pipeline.core.reading.row_groups import RowGroups, RowSlice
from iot_pipeline.core.reading.spans import Place
from iot_pipeline.core.reading.write_times import RowsByTime
from iot_pipeline.settings import Settings

_KEYSPACE = "iot_data"
_NOW_SECONDS = 1_900_000_000.0


class _Column(SimpleNamespace):
    keyspace_name = _KEYSPACE


# The driver's own of each type of a quantity.
_TYPES = {
    "double": DoubleType,
    "float": FloatType,
    "int": Int32Type,
    "bigint": LongType,
    "boolean": BooleanType,
    "text": UTF8Type,
}


def _prepared(cql: str, quantities: Sequence[Quantity]) -> PreparedStatement:
    """What a server's answer to PREPARE makes of our two statements."""
    types: list[tuple[str, Any]]
    if "sensor_data" in cql:
        types = [("device_id", UTF8Type), ("day", SimpleDateType), ("timestamp", DateType)]
        types += [(item.name, _TYPES[item.type]) for item in quantities]
        table, key = "sensor_data", [0, 1]
    else:
        types, table, key = (
            [("day", SimpleDateType), ("bucket", Int32Type), ("device_id", UTF8Type)],
            "devices_by_day",
            [0, 1],
        )
    types.append(("[timestamp]", LongType))
    if "TTL" in cql:
        types.append(("[ttl]", Int32Type))
    columns = [_Column(table_name=table, name=name, type=kind) for name, kind in types]
    query_id = (b"row" if table == "sensor_data" else b"dev").ljust(16, b"\x07")
    return PreparedStatement(columns, query_id, key, cql, _KEYSPACE, 4, [], None)


class _RecordingSession:
    """Keeps what it is asked to send; shaped like the driver's session where the store looks."""

    def __init__(self, quantities: Sequence[Quantity] = QUANTITIES) -> None:
        self.quantities = quantities
        self.client_protocol_handler: Any = ProtocolHandler
        self.sent: list[Any] = []

    def prepare(self, cql: str) -> PreparedStatement:
        return _prepared(cql, self.quantities)

    def execute_async(self, statement: Any, **_: Any) -> Any:
        self.sent.append(statement)
        return SimpleNamespace(add_callbacks=lambda *_, **__: None)


class _OfflineClient(CassandraClient):
    def __init__(self, session: _RecordingSession) -> None:
        super().__init__(Settings.from_env({}))
        self._session = session


def _store(
    kind: type[CassandraReadingStore],
    retention: Retention,
    quantities: Sequence[Quantity] = QUANTITIES,
) -> tuple[Any, Any]:
    session = _RecordingSession(quantities)
    return kind(_OfflineClient(session), quantities, retention, lambda: _NOW_SECONDS), session


_devices = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=256)
_doubles = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(
    [0.0, -0.0, 5e-324, 1.7976931348623157e308, -1.7976931348623157e308]
)
_rows = st.dictionaries(
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.tuples(
        st.integers(-(1 << 63), (1 << 63) - 1),
        st.integers(0, (1 << 63) - 1),
        st.integers(0, 10_000),
        _doubles,
        _doubles,
    ),
    min_size=1,
    max_size=20,
)
_days = st.integers(-(1 << 31), (1 << 31) - 1)
_groups = st.dictionaries(st.tuples(_devices, _days), _rows, min_size=1, max_size=5)
_groups_of_devices = (
    DeviceGroup("one letter", ("?",), retention_days=1 / 86_400),
    DeviceGroup("two", ("??",), retention_days=0),
    DeviceGroup("as all", ("???",)),
    DeviceGroup("longest", ("????*",), retention_days=7300),
)
_retention = st.sampled_from(
    [
        *(Retention(days) for days in (0.0, 1 / 86_400, 30.0, 7300.0)),
        Retention.of(30.0, _groups_of_devices),
        Retention.of(0.0, _groups_of_devices),
    ]
)


def _like_ttl(retention: Retention, groups: Any) -> Any:
    # With a TTL the write time is a time: seconds to live have to fit 32 bits.
    if not retention.may_end:
        return groups
    return {
        place: {ms: (abs(r[0]) % 4_000_000_000_000_000, *r[1:]) for ms, r in rows.items()}
        for place, rows in groups.items()
    }


@given(groups=_groups, retention=_retention)
def test_packed_rows_are_the_drivers_bytes(
    groups: dict[Place, RowsByTime], retention: Retention
) -> None:
    groups = _like_ttl(retention, groups)
    packed, ours = _store(PackedReadingStore, retention)
    plain, theirs = _store(CassandraReadingStore, retention)
    packed.send_rows(RowSlice.of(groups))
    plain.send_rows(RowSlice.of(groups))
    assert ours.client_protocol_handler is PackedProtocolHandler
    _assert_equal(ours.sent[0], theirs.sent[0])


@given(
    groups=st.dictionaries(st.tuples(_devices, _days), _rows, min_size=1, max_size=20),
    retention=_retention,
    at_once=st.integers(1, 60),
    again=st.lists(st.integers(0, 100)),
)
def test_requests_cut_out_of_rows_packed_together_are_the_drivers_bytes(
    groups: dict[Place, RowsByTime], retention: Retention, at_once: int, again: list[int]
) -> None:
    requests = list(requests_of(RowGroups.of(_like_ttl(retention, groups)), 4))
    packed, ours = _store(PackedReadingStore, retention)
    plain, theirs = _store(CassandraReadingStore, retention)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed_batch, "_ROWS_AT_ONCE", at_once)
        # In their order, as a micro-batch is written; then some again, as after a timeout.
        for rows in [*requests, *(requests[at % len(requests)] for at in again)]:
            packed.send_rows(rows)
            plain.send_rows(rows)
    for mine, driver in zip(ours.sent, theirs.sent, strict=True):
        _assert_equal(mine, driver)


_values: dict[QuantityType, st.SearchStrategy[Any]] = {
    "double": _doubles,
    "float": st.floats(width=32, allow_nan=False, allow_infinity=False),
    "int": st.integers(-(1 << 31), (1 << 31) - 1),
    "bigint": st.integers(-(1 << 63), (1 << 63) - 1),
    "boolean": st.booleans(),
    "text": st.text(st.characters(exclude_categories=["Cs"]), max_size=50),
}


@given(
    types=st.lists(st.sampled_from(list(_values)), min_size=1, max_size=6),
    retention=_retention,
    absent=st.sampled_from([st.nothing(), st.none()]),
    data=st.data(),
)
def test_packed_values_of_every_type_are_the_drivers_bytes(
    types: list[QuantityType],
    retention: Retention,
    absent: st.SearchStrategy[None],
    data: st.DataObject,
) -> None:
    """Absent ones, too, which the driver leaves unset."""
    quantities = [replace(QUANTITIES[0], name=f"q{n}", type=kind) for n, kind in enumerate(types)]
    cells = [_values[kind] | absent for kind in types]
    rows = st.dictionaries(
        st.integers(0, 1 << 40),
        st.tuples(st.integers(0, 1 << 50), st.just(0), st.just(0), *cells),
        min_size=1,
        max_size=9,
    )
    places = st.tuples(_devices, st.integers(0, 30_000))
    groups = data.draw(st.dictionaries(places, rows, min_size=1, max_size=5))
    packed, ours = _store(PackedReadingStore, retention, quantities)
    plain, theirs = _store(CassandraReadingStore, retention, quantities)
    for request in requests_of(RowGroups.of(groups), 4):
        packed.send_rows(request)
        plain.send_rows(request)
    assert ours.client_protocol_handler is PackedProtocolHandler
    for mine, driver in zip(ours.sent, theirs.sent, strict=True):
        _assert_equal(mine, driver)


@pytest.mark.parametrize("kind", [PackedReadingStore, CassandraReadingStore])
def test_a_row_lives_as_long_as_its_group_says_and_its_device_half_a_day_longer(
    kind: type[CassandraReadingStore],
) -> None:
    store, session = _store(kind, Retention.of(30.0, _groups_of_devices))
    now_ms = int(_NOW_SECONDS * 1000)
    rows: RowsByTime = {1: (now_ms * 1000, 1, 0, 1.0, 2.0)}
    lives = {"a": 1, "bb": 0, "ccc": 30 * 86_400, "dddd": 7300 * 86_400}
    for name, seconds in lives.items():
        store.send_rows(RowSlice.of({(name, 1): rows}))
        store.send_devices(1, {name: now_ms})
        row, device = (_seconds_of(sent) for sent in session.sent[-2:])
        assert row == seconds, name
        longest = 20 * 365 * 86_400  # of what Cassandra takes
        assert device == (min(seconds + 12 * 3600, longest) if seconds else 0), name


def _seconds_of(batch: Any) -> int:
    """The TTL of a batch of one row, which is its last value."""
    frame = encode_batch(batch, PackedProtocolHandler)
    # Behind the rows: consistency level, flags and a timestamp.
    return int.from_bytes(frame[-15:-11])


def test_many_requests_are_packed_together_and_only_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    groups = RowGroups.of(
        {(f"d{at:03d}", 1): {ms: (1, ms, 0, 1.0, 2.0) for ms in range(50)} for at in range(100)}
    )
    store, session = _store(PackedReadingStore, Retention(0.0))
    store.send_rows(RowSlice.of({("d", 1): {1: (1, 1, 0, 1.0, 2.0)}}))
    calls = []
    pack = pack_groups
    monkeypatch.setattr(packed_batch, "pack_groups", lambda *a: (calls.append(a[2:4]), pack(*a))[1])
    monkeypatch.setattr(packed_batch, "_ROWS_AT_ONCE", 2_000)
    requests = list(requests_of(groups, 64))
    for rows in requests:
        store.send_rows(rows)
    assert len(session.sent) == 101
    assert calls == [(0, 40), (40, 80), (80, 100)]
    store.send_rows(requests[0])
    assert calls[3:] == [(0, 1)], "sent again long after its neighbours, it is packed alone"
    store.send_rows(requests[99])
    assert calls[4:] == [], "and those behind it are still there"


def test_packed_rows_with_a_ttl_do_not_wait_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    now_ms = int(_NOW_SECONDS * 1000)
    groups = RowGroups.of({(name, 1): {1: (now_ms * 1000, 1, 0, 1.0, 2.0)} for name in ("a", "b")})
    store, session = _store(PackedReadingStore, Retention(1.0))
    first, second = (RowSlice(groups, at, at + 1) for at in (0, 1))
    store.send_rows(first)
    monkeypatch.setattr(time, "monotonic", lambda: 1e12)
    store._wall_clock = lambda: _NOW_SECONDS + 60
    store.send_rows(second)
    seconds = [int.from_bytes(s._statements_and_parameters.body[-4:]) for s in session.sent]
    assert seconds == [86_400, 86_400 - 60]


@given(
    devices=st.dictionaries(_devices, st.integers(0, 4_000_000_000_000), min_size=1, max_size=20),
    day_number=_days,
    retention=_retention,
)
def test_packed_devices_are_the_drivers_bytes(
    devices: dict[str, int], day_number: int, retention: Retention
) -> None:
    packed, ours = _store(PackedReadingStore, retention)
    plain, theirs = _store(CassandraReadingStore, retention)
    packed.send_devices(day_number, devices)
    plain.send_devices(day_number, devices)
    _assert_equal(ours.sent[0], theirs.sent[0])


def _assert_equal(ours: Any, theirs: Any) -> None:
    assert encode_batch(ours, PackedProtocolHandler) == encode_batch(theirs, ProtocolHandler)
    # Token awareness, the policy of retries and the consistency level hang on these.
    for name in (
        "routing_key",
        "keyspace",
        "is_idempotent",
        "batch_type",
        "consistency_level",
        "retry_policy",
        "serial_consistency_level",
        "custom_payload",
    ):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert len(ours) == len(theirs)


@pytest.mark.parametrize("payload", [None, {"who": b"test"}])
@pytest.mark.parametrize("tracing", [False, True])
@pytest.mark.parametrize("compressor", [None, lambda body: body[::-1]])
def test_header_payload_tracing_and_compression_stay_the_drivers_own(
    payload: Any, tracing: bool, compressor: Any
) -> None:
    frames = []
    for kind, handler in (
        (PackedReadingStore, PackedProtocolHandler),
        (CassandraReadingStore, ProtocolHandler),
    ):
        store, session = _store(kind, Retention(0.0))
        store.send_rows(RowSlice.of({("device_1", 20_000): {1: (2, 3, 4, 5.0, 6.0)}}))
        message = BatchMessage(
            BatchType.UNLOGGED, session.sent[0]._statements_and_parameters, 4, 8, 99, None
        )
        message.custom_payload, message.tracing = payload, tracing
        frames.append(handler.encode_message(message, 513, 4, compressor, False))
    assert frames[0] == frames[1]


@pytest.mark.parametrize("version", ["3.29.3", "3.31.0", "4.0"])
def test_another_driver_version_is_a_problem_with_a_name(version: str) -> None:
    session = SimpleNamespace(client_protocol_handler=ProtocolHandler)
    assert version in find_driver_problem(session, version)
    assert find_driver_problem(session) == ""


def test_a_handler_of_somebody_elses_means_the_plain_path_and_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Encrypting(ProtocolHandler):  # type: ignore[misc]
        pass

    store, session = _store(PackedReadingStore, Retention(0.0))
    session.client_protocol_handler = Encrypting
    with caplog.at_level(logging.WARNING):
        store.send_rows(RowSlice.of({("device_1", 20_000): {1: (2, 3, 4, 5.0, 6.0)}}))
        store.send_devices(20_000, {"device_1": 1})
    assert [r.getMessage().count("Encrypting") for r in caplog.records] == [1]
    assert session.client_protocol_handler is Encrypting
    assert list(session.sent[0]._statements_and_parameters)


def test_a_driver_that_binds_in_another_order_means_the_plain_path(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Swapped(BatchStatement):  # type: ignore[misc]
        def add(self, statement: Any, parameters: Any = None) -> Any:
            swapped = list(parameters)
            if len(swapped) > 4:
                swapped[3], swapped[4] = swapped[4], swapped[3]
            return super().add(statement, tuple(swapped))

    store, session = _store(PackedReadingStore, Retention(0.0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("iot_pipeline.clients.packed_batch.BatchStatement", Swapped)
        store.send_rows(RowSlice.of({("device_1", 20_000): {1: (2, 3, 4, 5.0, 6.0)}}))
    assert "encodes a batch otherwise" in caplog.text
    assert session.client_protocol_handler is ProtocolHandler


@pytest.mark.parametrize(
    ("path", "kind"), [("packed", PackedReadingStore), ("driver", CassandraReadingStore)]
)
def test_one_setting_chooses_the_write_path(path: str, kind: type) -> None:
    settings = Settings.from_env({"IOT_WRITE_PATH": path})
    assert type(open_reading_store(CassandraClient(settings), settings)) is kind
