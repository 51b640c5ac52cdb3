"""A person's SELECT: tables without a keyspace are the pipeline's, whatever the driver knows."""

from types import SimpleNamespace
from typing import Any

import pytest
from cassandra import InvalidRequest, OperationTimedOut

from iot_pipeline.clients.select import run_select
from iot_pipeline.errors import CassandraUnavailableError, SchemaMismatchError


class SessionThatKnowsNoKeyspace:
    """The question that would have told the driver about the keyspace timed out."""

    cluster = SimpleNamespace(metadata=SimpleNamespace(keyspaces={}))

    def __init__(self, refusal: Exception | None = None) -> None:
        self.keyspace, self.refusal = "", refusal

    def set_keyspace(self, keyspace: str) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.keyspace = keyspace

    def execute(self, cql: str) -> "Rows":
        if not self.keyspace and "iot_other." not in cql:
            raise InvalidRequest("No keyspace has been specified")
        return Rows([(1,)])


class Rows(list):
    column_names = ("n",)


def client(session: SessionThatKnowsNoKeyspace) -> Any:
    return SimpleNamespace(keyspace="iot_data", session=session)


def test_a_table_is_the_pipelines_though_the_driver_has_not_learnt_of_the_keyspace():
    session = SessionThatKnowsNoKeyspace()
    assert run_select(client(session), "SELECT n FROM sensor_data", 5).rows == [(1,)]
    assert session.keyspace == "iot_data"


def test_before_setup_tables_with_a_keyspace_can_be_read_and_others_want_setup():
    before_setup = client(SessionThatKnowsNoKeyspace(InvalidRequest("'iot_data' does not exist")))
    assert run_select(before_setup, "SELECT n FROM iot_other.things", 5).rows == [(1,)]
    with pytest.raises(SchemaMismatchError, match="iot setup"):
        run_select(before_setup, "SELECT n FROM sensor_data", 5)


def test_a_keyspace_that_could_not_be_asked_for_is_an_outage():
    silent = client(SessionThatKnowsNoKeyspace(OperationTimedOut({}, "a")))
    with pytest.raises(CassandraUnavailableError):
        run_select(silent, "SELECT n FROM sensor_data", 5)
