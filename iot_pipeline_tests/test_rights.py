"""Every command and job has its rights, and they are about what there is."""

from pathlib import Path

import pytest

from iot_pipeline.core.checks.schema import read_tables
from iot_pipeline.core.rights.needed import COMMANDS, JOBS, ROLES, Needs, needs_of_role
from iot_pipeline.core.rights.table import rights_table
from iot_pipeline.definitions import defs
from iot_pipeline.settings import Settings
from iot_pipeline_tests.cli.terminals import all_commands
from iot_pipeline_tests.core.checks.shipped import MIGRATIONS

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = Settings(topic="t", keyspace="k")


def test_every_command_has_its_rights() -> None:
    assert {name.split(" --")[0] for name in COMMANDS} == set(all_commands())


def test_every_job_and_sensor_has_its_rights() -> None:
    jobs = {job.name for job in defs.jobs or ()}
    sensors = {sensor.name for sensor in defs.sensors or ()}
    assert set(JOBS) == jobs | sensors


@pytest.mark.parametrize("needs", [*COMMANDS.values(), *JOBS.values()])
def test_rights_are_about_what_there_is(needs: Needs) -> None:
    tables = {f"TABLE k.{name}" for name in read_tables(MIGRATIONS)}
    for permission in needs.named(SETTINGS).cassandra:
        known = {"KEYSPACE k", "ALL KEYSPACES", "TABLE system_views.settings", *tables}
        assert permission.grant.resource in known
    for right in needs.named(SETTINGS).kafka:
        assert right.grant.name in {"t", "t.dlq", SETTINGS.consumer_group, "*"}


def test_each_table_is_written_by_a_role() -> None:
    """But for that of the migrations, whose owner is who makes it."""
    written = {
        right.grant.resource
        for role in ROLES
        for right in needs_of_role(role).named(SETTINGS).cassandra
        if right.grant.permission == "MODIFY"
    }
    tables = read_tables(MIGRATIONS)
    assert written == {f"TABLE k.{name}" for name in tables}


def test_who_reads_changes_nothing() -> None:
    needs = needs_of_role("read")
    assert {right.grant.permission for right in needs.cassandra} == {"SELECT"}
    assert {right.grant.operation for right in needs.kafka} == {
        "Describe",
        "Read",
        "DescribeConfigs",
    }


def test_what_one_command_cannot_do_without_its_role_cannot_either() -> None:
    ingest = needs_of_role("ingest")
    lost = {str(right.grant): right.lost for right in ingest.kafka}
    assert not lost["Read topic {0.dead_letter_topic}"], "audits need it, checks could do without"
    assert lost["Read group {0.consumer_group}"]


def test_the_table_in_the_document_is_current() -> None:
    table = rights_table()
    assert table in (ROOT / "docs" / "security.md").read_text(), f"docs/security.md needs:\n{table}"
