"""`iot setup` adds the columns of quantities declared since, and alters no other table."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from iot_pipeline.clients.schema_store import migration_files
from iot_pipeline.core.checks.cql_script import MIGRATIONS_TABLE
from iot_pipeline.core.checks.schema import read_migrations, read_tables
from iot_pipeline.core.rollups.declared_columns import declared_columns
from iot_pipeline.errors import SchemaMismatchError
from iot_pipeline.settings import Settings
from iot_pipeline.stages.checks import schema_matches
from iot_pipeline.stages.schema import check_schema, setup_schema
from iot_pipeline_tests.core.checks.shipped import MIGRATIONS
from iot_pipeline_tests.core.reading.air import AIR
from iot_pipeline_tests.stages.test_external_schema import MadeByAPerson, NoNewTopics
from iot_pipeline_tests.stages.test_topics import log_of

SETTINGS = Settings(topic="t", keyspace="ks")


@dataclass
class SetUpBefore(MadeByAPerson):
    """A keyspace that was set up with the default quantities; AIR is declared since."""

    migrations: list = field(
        default_factory=lambda: read_migrations(migration_files(), declared_columns(AIR))
    )
    tables: dict = field(
        default_factory=lambda: {
            name: dict(columns)
            for name, columns in read_tables([MIGRATIONS_TABLE, *MIGRATIONS]).items()
        }
    )
    added: list = field(default_factory=list)

    def lock(self, holder):
        pass

    def unlock(self, holder):
        pass

    def dropped_columns(self, table):
        return set()

    def add_columns(self, table, columns):
        self.added.append(table)
        self.tables[table] |= {name: (kind, "regular") for name, kind in columns.items()}


def set_up(tables: Any) -> Any:
    return setup_schema(NoNewTopics(), log_of(), tables, SETTINGS)


def test_each_table_gets_what_it_lacks_once():
    tables: Any = SetUpBefore()
    before = check_schema(tables, SETTINGS)
    assert not schema_matches.judge(before.differences).passed
    report = set_up(tables)
    assert report.created == [
        "in table sensor_data the column co2, pm25, noise",
        "in table hourly_readings the column co2_count, co2_min, co2_mean, co2_max (and 17 more)",
        "in table daily_readings the column co2_count, co2_min, co2_mean, co2_max (and 17 more)",
    ]
    assert set_up(tables).created == []
    assert len(tables.added) == 3
    verdict = schema_matches.judge(check_schema(tables, SETTINGS).differences)
    assert verdict.passed
    assert "column temperature, humidity is of no declared quantity" in verdict.sentence


@pytest.mark.parametrize("table", ["sensor_data", "hourly_readings"])
def test_a_table_that_is_another_ones_is_refused_and_nothing_is_added(table: str):
    tables = SetUpBefore()
    tables.tables[table]["device_id"] = ("uuid", "partition_key")
    with pytest.raises(SchemaMismatchError, match="device_id is partition_key uuid"):
        set_up(tables)
    assert tables.added == []


def test_a_quantity_of_another_type_is_refused_and_nothing_is_added():
    tables = SetUpBefore()
    tables.tables["sensor_data"]["co2"] = ("float", "regular")
    with pytest.raises(SchemaMismatchError, match="cannot change a column's type"):
        set_up(tables)
    assert tables.added == []
