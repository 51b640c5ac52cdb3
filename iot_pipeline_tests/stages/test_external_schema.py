"""IOT_SCHEMA=external: nothing is made or written in Cassandra, and what is missing is named."""

from dataclasses import dataclass, field

import pytest

from iot_pipeline.cli.setup import script
from iot_pipeline.core.checks.cql_script import MIGRATIONS_TABLE
from iot_pipeline.core.checks.schema import read_options, read_tables
from iot_pipeline.errors import ConfigurationError, SchemaMismatchError
from iot_pipeline.settings import Settings
from iot_pipeline.stages.checks import schema_matches
from iot_pipeline.stages.schema import check_schema, setup_schema
from iot_pipeline_tests.core.checks.shipped import MIGRATIONS
from iot_pipeline_tests.stages.test_topics import log_of

SETTINGS = Settings(topic="t", keyspace="ks", schema="external")


@dataclass
class MadeByAPerson:
    """A keyspace as the printed CQL makes it. It can be read, and has no method that writes:
    mypy says that it is no TableStore, and is right.
    """

    migrations: list = field(default_factory=lambda: MIGRATIONS)
    topic: str | None = "t"
    exists: bool = True
    tables: dict = field(default_factory=lambda: read_tables([MIGRATIONS_TABLE, *MIGRATIONS]))
    applied: dict = field(
        default_factory=lambda: {m.version: (m.name, m.sha256) for m in MIGRATIONS}
    )

    dropped: dict = field(default_factory=dict)

    def owner(self):
        return self.topic

    def keyspace_replication(self):
        return {"class": "NetworkTopologyStrategy", "dc": "1"} if self.exists else None

    def nodes(self):
        return {"dc": 1}

    def local_datacenter(self):
        return "dc"

    def applied_migrations(self):
        return self.applied

    def columns(self, table):
        return self.tables.get(table, {})

    def dropped_columns(self, table):
        return self.dropped.get(table, set())

    def options(self, table):
        return read_options(self.migrations).get(table, {})

    def commitlog_modes(self):
        return {"node": "group"}


class NoNewTopics:
    def check(self, plan) -> None:
        """May be made."""

    def create(self, plan) -> bool:
        return False


def set_up(tables, *denied):
    return setup_schema(NoNewTopics(), log_of(*denied), tables, SETTINGS)


def test_a_keyspace_that_a_person_made_from_the_printed_cql_is_as_expected():
    report = set_up(MadeByAPerson())
    assert (report.created, report.differences, report.fatal) == ([], [], [])


def test_a_topic_that_we_may_not_see_is_told_and_does_not_end_the_setting_up():
    said = set_up(MadeByAPerson(), "t.dlq").sentences()
    assert "WARNING: not known: describing topic t.dlq: no right. Grant it." in said


def test_a_missing_column_is_named_with_the_statement_that_adds_it():
    tables = MadeByAPerson()
    del tables.tables["sensor_data"]["humidity"]
    with pytest.raises(SchemaMismatchError) as caught:
        set_up(tables)
    said = str(caught.value)
    assert "column ks.sensor_data.humidity is missing, expected regular double" in said
    assert said.endswith(
        "No table was made or altered. In CQL: ALTER TABLE ks.sensor_data ADD humidity double;"
    )
    found = check_schema(tables, SETTINGS).differences  # type: ignore[arg-type]
    verdict = schema_matches.judge(found, is_external=True)
    assert not verdict.passed
    assert "In CQL: ALTER TABLE ks.sensor_data ADD humidity double;" in verdict.sentence
    assert "setup_schema" not in verdict.sentence


def test_a_column_that_was_dropped_is_not_to_be_added_again():
    tables = MadeByAPerson(dropped={"sensor_data": {"humidity"}})
    del tables.tables["sensor_data"]["humidity"]
    with pytest.raises(SchemaMismatchError, match="it was dropped") as caught:
        set_up(tables)
    assert str(caught.value).endswith("In CQL: not by one statement")


def test_a_missing_table_is_named_with_the_statement_that_makes_it():
    tables = MadeByAPerson()
    del tables.tables["audits"]
    with pytest.raises(SchemaMismatchError, match=r"In CQL: CREATE TABLE IF NOT EXISTS ks\.audits"):
        set_up(tables)


def test_a_column_of_another_type_has_no_statement_that_would_help():
    tables = MadeByAPerson()
    tables.tables["sensor_data"]["humidity"] = ("float", "regular")
    with pytest.raises(SchemaMismatchError, match="In CQL: not by one statement"):
        set_up(tables)


def test_a_missing_keyspace_is_left_to_a_person_and_no_topic_is_made():
    with pytest.raises(SchemaMismatchError, match=r"In CQL: CREATE KEYSPACE IF NOT EXISTS ks"):
        set_up(MadeByAPerson(exists=False, tables={}, topic=None))


def test_what_a_keyspace_does_not_say_of_itself_is_a_note_with_its_statement():
    tables = MadeByAPerson(topic=None)
    del tables.applied[3]
    report = set_up(tables)
    assert report.fatal == []
    said = report.sentences()
    assert any("migration 003_ingest_ledger.cql is not noted" in text for text in said)
    assert any("VALUES (3, '003_ingest_ledger.cql', '" in text for text in said)
    assert any("VALUES (-1, 't') IF NOT EXISTS" in text for text in said)


def test_a_keyspace_of_another_topic_is_refused():
    with pytest.raises(ConfigurationError, match="belongs to topic other"):
        set_up(MadeByAPerson(topic="other"))


def test_the_printed_text_names_the_datacenters_that_are_set():
    several = SETTINGS.model_copy(update={"keyspace_replication": {"dc1": 3, "dc2": 2}})
    assert any("'dc1': 3, 'dc2': 2}" in line for line in script(several))
    here = SETTINGS.model_copy(update={"keyspace_replication": 3, "datacenter": "here"})
    assert any("'here': 3}" in line for line in script(here))
    assert any("IOT_DATACENTER is another name" in line for line in script(SETTINGS))
    assert all(line.startswith("--") for line in script(here) if "kafka-topics.sh" in line)
