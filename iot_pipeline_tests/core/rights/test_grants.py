import shlex

import pytest

from iot_pipeline.core.rights.grants import (
    READ,
    TOPIC,
    CassandraGrant,
    KafkaGrant,
    kafka_lines,
    read_refusal,
)


@pytest.mark.parametrize(
    ("resource", "permission", "line"),
    [
        ("<table iot.sensor_data>", "SELECT", "GRANT SELECT ON KEYSPACE iot TO ana;"),
        ("<table iot.sensor_data>", "MODIFY", "GRANT MODIFY ON TABLE iot.sensor_data TO ana;"),
        (
            "<table system_views.settings>",
            "SELECT",
            "GRANT SELECT ON TABLE system_views.settings T",
        ),
        ("<all tables in iot>", "CREATE", "GRANT CREATE ON KEYSPACE iot TO ana;"),
        ("<keyspace iot>", "AUTHORIZE", "GRANT AUTHORIZE ON KEYSPACE iot TO ana;"),
        ("<all keyspaces>", "CREATE", "GRANT CREATE ON ALL KEYSPACES TO ana;"),
    ],
)
def test_a_refusal_says_what_grants_it(resource: str, permission: str, line: str) -> None:
    said = f"User ana has no {permission} permission on {resource} or any of its parents"
    found = read_refusal(f'Error from server: code=2100 [Unauthorized] message="{said}"')
    assert found is not None
    role, grant = found
    assert grant.line(role).startswith(line)


@pytest.mark.parametrize(
    "said", ["", "You have not logged in", "User a has no X permission on <role b>"]
)
def test_other_refusals_are_told_as_they_are(said: str) -> None:
    assert read_refusal(said) is None


def test_a_role_that_is_no_plain_name_is_quoted() -> None:
    grant = CassandraGrant("SELECT", "KEYSPACE iot")
    assert grant.line('Ana "x"') == 'GRANT SELECT ON KEYSPACE iot TO "Ana ""x""";'


def test_a_shell_takes_the_line_as_it_is_meant() -> None:
    grants = [KafkaGrant(READ, TOPIC, "a b"), KafkaGrant("Describe", TOPIC, "a b")]
    (line,) = kafka_lines(grants, "CN=ana, O='x'", "k:9092")
    words = shlex.split(line)
    assert words[words.index("--allow-principal") + 1] == "User:CN=ana, O='x'"
    assert words[-6:] == ["--operation", "Read", "--operation", "Describe", "--topic", "a b"]
