"""A connection to Cassandra, its settings, and one way to ask.

Nothing here retries: a request that fails says so, and the stage decides.
"""

import logging
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Self, TypeVar

from cassandra import ConsistencyLevel, DriverException
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, Session
from cassandra.policies import (
    ConstantReconnectionPolicy,
    DCAwareRoundRobinPolicy,
    FallthroughRetryPolicy,
    TokenAwarePolicy,
)
from cassandra.query import (
    BatchStatement,
    BatchType,
    PreparedStatement,
    SimpleStatement,
    named_tuple_factory,
    tuple_factory,
)

from iot_pipeline.clients.cassandra_answers import PendingAnswer, all_rows
from iot_pipeline.clients.cassandra_errors import DRIVER_ERRORS, translate
from iot_pipeline.clients.cassandra_nodes import LonelyLast, PassedOver
from iot_pipeline.clients.cassandra_versions import check_version, refuse_by_name
from iot_pipeline.clients.doors import why_cassandra_is_shut
from iot_pipeline.errors import CassandraUnavailableError, ConfigurationError
from iot_pipeline.settings import Settings
from iot_pipeline.tls import tls_context

T = TypeVar("T")

SERIAL = {
    "SERIAL": ConsistencyLevel.SERIAL,
    "LOCAL_SERIAL": ConsistencyLevel.LOCAL_SERIAL,
}


# Named tuples cost a new class per answer, 0.3 ms; many small answers are read as plain ones.
PLAIN_TUPLES = "plain_tuples"


# A node that says nothing for so long is asked whether it lives, and is passed over when it does
# not answer that either. By default that is a minute, and its share of the requests waits for it.
# The driver looks at intervals, and may ask only at the second look.
_SILENT_SECONDS = 1
_ANSWER_SECONDS = 3
# With no other node to turn to, one that stands still for some seconds is waited for.
_ALONE_SECONDS = 10


# So long a node has to take a connection in, the first time, where there are others. The driver
# waits for one that is frozen for all of its time, and may do so twice, once for its own questions
# and once for ours: ten seconds, before a run could ask anything. Where none takes one in so soon,
# each has its whole time.
_SOON_SECONDS = 1.5


# Questions of one kind on their way, each with a page.
_STREAMS_AT_ONCE = 32


class CassandraClient:
    """One session, made at first use, closed by `close`.

    Args:
        settings: where the nodes are, the keyspace, the serial consistency.
        request_timeout_seconds: how long one answer may take; sensors take few seconds.
        connect_timeout_seconds: the same for a connection.

    Raises:
        CassandraUnavailableError: no node answered.
        ConfigurationError: a node answered that it does not know us.
        SchemaMismatchError: no such keyspace or table.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        request_timeout_seconds: float = 10.0,
        connect_timeout_seconds: float = 5.0,
    ) -> None:
        self.settings = settings
        self.keyspace = settings.keyspace
        self.write_consistency: int = getattr(ConsistencyLevel, settings.write_consistency)
        self._request_timeout = request_timeout_seconds
        self._connect_timeout = connect_timeout_seconds
        self._cluster: Any = None
        self._session: Any = None
        self._prepared: dict[str, Any] = {}
        self._passed_over = PassedOver()
        self._wakeup = threading.Event()

    @property
    def session(self) -> Any:
        """The driver's session; connects when there is none."""
        if self._session is None:
            self._connect()
        return self._session

    def _connect(self) -> None:
        datacenter = self.settings.datacenter
        # The driver logs a stack trace per attempt while a node is away, at WARNING, and at ERROR
        # where it prepares; our own message says it once.
        logging.getLogger("cassandra").setLevel(logging.CRITICAL)
        profile = self._profile(datacenter, named_tuple_factory)
        tuples = self._profile(datacenter, tuple_factory)
        options = dict[str, Any](
            **self._where(),
            execution_profiles={EXEC_PROFILE_DEFAULT: profile, PLAIN_TUPLES: tuples},
            # Version 5 adds a checksum over every frame, computed in Python, and nothing we use.
            protocol_version=4,
            control_connection_timeout=self._connect_timeout,
            idle_heartbeat_interval=_SILENT_SECONDS,
            idle_heartbeat_timeout=_ANSWER_SECONDS if self._has_others else _ALONE_SECONDS,
            reconnection_policy=ConstantReconnectionPolicy(0.5, max_attempts=None),
            # Without it a batch over 4 KiB waits 44 ms for the delayed ACK of its first part.
            sockopts=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
            # Else it reads all tables of the cluster at each connect, and each that changes. Of all
            # this it needs one thing, to send a request to a replica: see `learn_replicas`.
            schema_metadata_enabled=False,
        )
        if self.settings.cassandra_username:
            options["auth_provider"] = PlainTextAuthProvider(
                self.settings.cassandra_username,
                self.settings.cassandra_password.get_secret_value(),
            )
        refuse_by_name(self.settings.contact_points)
        try:
            self._open(options)
            check_version(self._session)
            self.learn_replicas()
        except ConfigurationError as exc:
            self.close()
            raise ConfigurationError(f"connecting: {exc}") from None
        except DRIVER_ERRORS as exc:
            others = self._other_datacenters()
            self.close()
            if others:
                raise ConfigurationError(
                    f"connecting: IOT_DATACENTER={datacenter}: the nodes that answer are in "
                    f"{', '.join(others)}"
                ) from exc
            error = translate(exc, "connecting")
            if not isinstance(error, CassandraUnavailableError):
                raise error from exc
            shut = why_cassandra_is_shut(self.settings)
            if shut is not None:
                raise type(shut)(f"connecting: {shut}") from exc
            raise CassandraUnavailableError(
                f"{error}. Try again; `iot status` says what runs here"
            ) from exc
        assert isinstance(self._session, Session)

    @property
    def _has_others(self) -> bool:
        """Whether there is more than one node, by the settings."""
        is_bundle = bool(self.settings.cassandra_secure_connect_bundle)
        return is_bundle or len(self.settings.contact_points) > 1

    def _open(self, options: dict[str, Any]) -> None:
        is_soon = self._has_others and "cloud" not in options
        if is_soon and self._connect_timeout > _SOON_SECONDS:
            try:
                self._open_within(_SOON_SECONDS, options)
            except DRIVER_ERRORS as exc:
                error = translate(exc, "connecting")
                if self._other_datacenters() or not isinstance(error, CassandraUnavailableError):
                    raise
                self.close()
            else:
                # For what is connected later.
                self._cluster.connect_timeout = self._connect_timeout
                return
        self._open_within(self._connect_timeout, options)

    def _open_within(self, seconds: float, options: dict[str, Any]) -> None:
        # Made anew each time: it looks the contact points' names up.
        self._cluster = Cluster(**options, connect_timeout=seconds)
        self._session = self._cluster.connect()

    def _where(self) -> dict[str, Any]:
        """The nodes and whom to trust."""
        bundle = self.settings.cassandra_secure_connect_bundle
        if bundle:
            # It unpacks the bundle, with its key, into a folder of its owner's for a moment; the
            # bundle's own folder may be one that we cannot write to, as mounted secrets are.
            found = {"secure_connect_bundle": bundle, "use_default_tempdir": True}
            return {"cloud": found | {"connect_timeout": self._connect_timeout}}
        return {
            "contact_points": list(self.settings.contact_points),
            "port": self.settings.cassandra_port,
            # Made here: files that it cannot use are refused before anything is contacted.
            "ssl_context": tls_context(self.settings.cassandra_tls),
        }

    def _other_datacenters(self) -> list[str]:
        """The datacenters there are, where the one that is set is none of them."""
        wanted = self.settings.datacenter
        if not wanted or self._cluster is None:
            return []
        known = {str(h.datacenter) for h in self._cluster.metadata.all_hosts() if h.datacenter}
        return [] if wanted in known else sorted(known)

    def _profile(self, datacenter: str, make_rows: Any) -> Any:
        return ExecutionProfile(
            row_factory=make_rows,
            # Of reads; `prepare` and batches say it of writes.
            consistency_level=getattr(ConsistencyLevel, self.settings.read_consistency),
            serial_consistency_level=SERIAL[self.settings.serial_consistency],
            # Every retry is the stage's: seen, bounded and logged in one place.
            retry_policy=FallthroughRetryPolicy(),
            request_timeout=self._request_timeout,
            load_balancing_policy=LonelyLast(
                TokenAwarePolicy(
                    DCAwareRoundRobinPolicy(local_dc=datacenter)
                    if datacenter
                    else DCAwareRoundRobinPolicy()
                ),
                self._passed_over,
            ),
        )

    def learn_replicas(self) -> None:
        """Have the driver know which nodes keep a row of our keyspace, if there is one by now.

        What it knows may become old, or it does not come to know it: a request then goes to some
        node, which passes it on.
        """
        with suppress(DriverException):
            self._cluster.refresh_keyspace_metadata(self.keyspace, max_schema_agreement_wait=-1)

    def close(self) -> None:
        """End the session; the client may be used again and then connects anew."""
        cluster, self._cluster, self._session = self._cluster, None, None
        self._prepared.clear()
        if cluster is not None:
            cluster.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait(self, timeout_seconds: float) -> None:
        """Until an answer has come since the last call, or the time is over."""
        if self._wakeup.wait(timeout_seconds):
            self._wakeup.clear()

    def prepare(self, cql: str) -> Any:
        """The prepared statement, kept for as long as the session is."""
        # The driver keeps prepared statements weakly: without this reference it forgets them
        # and prepares again after every restart of a node.
        statement = self._prepared.get(cql)
        if statement is None:
            try:
                statement = self.session.prepare(cql)
            except DRIVER_ERRORS as exc:
                raise translate(exc, f"preparing `{_shorten(cql)}`") from exc
            assert isinstance(statement, PreparedStatement)
            statement.is_idempotent = True
            if not cql.lstrip().startswith("SELECT"):
                statement.consistency_level = self.write_consistency
            self._prepared[cql] = statement
        return statement

    def execute(
        self,
        cql: str,
        values: Sequence[Any] = (),
        *,
        doing: str,
        serial: bool = False,
        timeout_seconds: float | None = None,
    ) -> list[Any]:
        """Ask once and wait; rows as named tuples, all pages of them.

        Args:
            cql: a statement; with values it is prepared.
            values: one per `?`.
            doing: attempt and coordinates for the error's message.
            serial: read what Paxos has accepted, not only what was committed.
            timeout_seconds: instead of the client's.
        """
        try:
            statement: Any
            if values:
                statement = self.prepare(cql).bind(tuple(values))
            else:
                statement = SimpleStatement(cql, is_idempotent=True)
            if serial:
                statement.consistency_level = SERIAL[self.settings.serial_consistency]
            timeout = timeout_seconds or self._request_timeout
            return list(self._result(self.session.execute_async(statement, timeout=timeout)))
        except DRIVER_ERRORS as exc:
            raise translate(exc, doing) from exc

    def stream(
        self,
        cql: str,
        values: Sequence[Any],
        *,
        doing: str,
        page_rows: int | None = None,
        profile: object = EXEC_PROFILE_DEFAULT,
    ) -> Iterator[Any]:
        """Ask once; rows as the profile has them, the next page only when it is needed.

        `page_rows` is how many come at once, 5,000 unless given: a reader that stops early
        pays for all rows of the page.
        """
        for rows in self.streams([(cql, values, doing)], page_rows=page_rows, profile=profile):
            yield from rows

    def streams(
        self,
        asked: Iterable[tuple[str, Sequence[Any], str]],
        *,
        page_rows: int | None = None,
        profile: object = EXEC_PROFILE_DEFAULT,
    ) -> Iterator[Iterator[Any]]:
        """As `stream`, for each (cql, values, doing) in order; the first pages of some at once.

        One after the other, the ledgers of a thousand Kafka partitions take seconds.
        """
        sent: deque[Iterator[Any]] = deque()
        for cql, values, doing in asked:
            sent.append(self._rows_of(self._ask(cql, values, doing, page_rows, profile), doing))
            if len(sent) == _STREAMS_AT_ONCE:
                yield sent.popleft()
        yield from sent

    def _ask(
        self, cql: str, values: Sequence[Any], doing: str, page_rows: int | None, profile: object
    ) -> Any:
        try:
            bound = self.prepare(cql).bind(tuple(values))
            if page_rows is not None:
                bound.fetch_size = page_rows
            return self.session.execute_async(
                bound, timeout=self._request_timeout, execution_profile=profile
            )
        except DRIVER_ERRORS as exc:
            raise translate(exc, doing) from exc

    def _rows_of(self, future: Any, doing: str) -> Iterator[Any]:
        try:
            yield from self._result(future)
        except DRIVER_ERRORS as exc:
            raise translate(exc, doing) from exc

    def _result(self, future: Any) -> Any:
        try:
            return future.result()
        except DRIVER_ERRORS as exc:
            self._passed_over.note(exc, future.coordinator_host)
            raise

    def unlogged_batch(self) -> Any:
        """An empty UNLOGGED batch that may be sent twice."""
        batch = BatchStatement(
            batch_type=BatchType.UNLOGGED, consistency_level=self.write_consistency
        )
        batch.is_idempotent = True
        return batch

    def conditional_batch(self) -> Any:
        """An empty batch for conditional statements; never sent twice by the driver."""
        return BatchStatement(
            batch_type=BatchType.UNLOGGED,
            consistency_level=ConsistencyLevel.LOCAL_QUORUM
            if self.settings.serial_consistency == "LOCAL_SERIAL"
            else ConsistencyLevel.QUORUM,
            serial_consistency_level=SERIAL[self.settings.serial_consistency],
        )

    def start(
        self,
        make_statement: Callable[[], Any],
        doing: str,
        find: Callable[[Sequence[Any]], Any] = all_rows,
        profile: object = EXEC_PROFILE_DEFAULT,
    ) -> PendingAnswer[Any]:
        """Send a statement without waiting; a failure to send is an answer too.

        Args:
            make_statement: called at once.
            doing: attempt and coordinates for the error's message.
            find: makes what was asked for of the first page's rows.
            profile: how rows come.
        """
        pending = PendingAnswer[Any](self._wakeup, doing, find, self._passed_over)
        try:
            future = self.session.execute_async(make_statement(), execution_profile=profile)
        except DRIVER_ERRORS as exc:
            pending.fail(exc)
            return pending
        return pending.follow(future)

    def finish(self, pending: PendingAnswer[T]) -> T:
        """Wait for what `start` sent; raises its error."""
        while not pending.done:
            self.wait(0.1)
        if pending.error is not None:
            raise pending.error
        return pending.found


def _shorten(cql: str) -> str:
    return " ".join(cql.split())[:120]
