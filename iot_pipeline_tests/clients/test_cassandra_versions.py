"""What answers as Cassandra: refused by name, called untried once, or simply used."""

import logging
from types import SimpleNamespace

import pytest
from cassandra import InvalidRequest

from iot_pipeline.clients import cassandra_versions
from iot_pipeline.clients.cassandra import CassandraClient
from iot_pipeline.clients.cassandra_versions import check_version, oldest_of, refuse_by_name
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.settings import Settings


class Session:
    """A session's metadata, and its answers; a question without one is not understood."""

    def __init__(self, *versions: str, cluster="c", answers=()) -> None:
        hosts = [SimpleNamespace(release_version=version) for version in versions]
        metadata = SimpleNamespace(cluster_name=cluster, all_hosts=lambda: hosts)
        self.cluster = SimpleNamespace(metadata=metadata)
        self.answers, self.asked = dict(answers), list[str]()

    def execute(self, cql: str):
        self.asked.append(cql)
        if cql not in self.answers:
            raise InvalidRequest("Unknown function 'floor'")
        return self.answers[cql]


SCYLLA, GROUPS = cassandra_versions._SCYLLA, cassandra_versions._GROUPS_BY_TIME


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch) -> None:
    monkeypatch.setattr(cassandra_versions, "_said", set())


@pytest.mark.parametrize("version", ["4.1.10", "4.1-rc1", "5.0.9", "5.0.9-SNAPSHOT"])
def test_what_was_tried_is_used_without_a_question_or_a_word(version, caplog):
    session = Session(version, "5.0.9")
    check_version(session)
    assert session.asked == []
    assert caplog.records == []


@pytest.mark.parametrize("versions", [("4.0.7",), ("3.11.19",), ("5.0.9", "4.0.7")])
def test_older_than_4_1_is_refused_by_name_with_the_reason(versions):
    with pytest.raises(ConfigurationError) as caught:
        check_version(Session(*versions, answers={SCYLLA: []}))
    said = str(caught.value)
    assert f"this is Cassandra {versions[-1]}: readings are counted" in said
    assert "grouping times, which came with 4.1" in said


def test_amazon_keyspaces_is_refused_by_what_it_says_of_itself_and_by_its_host_name():
    with pytest.raises(ConfigurationError, match=r"Amazon Keyspaces.*30 statements a batch"):
        check_version(Session("3.11.2", cluster="Amazon Keyspaces"))
    for host in (
        "cassandra.eu-central-1.amazonaws.com",
        "cassandra-fips.us-east-1.amazonaws.com",
        "cassandra.cn-north-1.amazonaws.com.cn",
        "cassandra.us-east-1.api.aws",
    ):
        with pytest.raises(ConfigurationError, match="no COUNT"):
            CassandraClient(Settings(contact_points=(host,))).execute("SELECT", doing="asking")
    refuse_by_name(["10.0.0.1", "cassandra.example.com", "ec2-1-2-3-4.eu.compute.amazonaws.com"])


@pytest.mark.parametrize(
    ("session", "said"),
    [
        (Session("3.0.8", answers={SCYLLA: [("scylla_tables",)]}), "ScyllaDB, which was not tried"),
        (Session("4.0.0.6816", answers={SCYLLA: [], GROUPS: [(1,)]}), "calls itself 4.0.0"),
        (Session("6.0.1"), "Cassandra 6.0.1 was not tried"),
        (Session("", answers={SCYLLA: [], GROUPS: [(1,)]}), "of an unknown version"),
    ],
)
def test_what_nobody_tried_is_called_so_once(session, said, caplog):
    caplog.set_level(logging.WARNING)
    check_version(session)
    check_version(session)
    (record,) = caplog.records
    assert said in record.getMessage()


def test_the_lowest_version_of_all_nodes_counts():
    assert oldest_of(["5.0.10", "5.0.9", ""]) == (5, 0, 9)
    assert oldest_of(["", "trunk"]) is None


@pytest.mark.services
def test_a_server_that_is_refused_is_refused_when_a_client_connects(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with CassandraClient(settings) as client:
        assert client.execute(GROUPS, doing="asking as the probe does")
    monkeypatch.setattr(cassandra_versions, "OLDEST", (9, 0))
    monkeypatch.setattr(cassandra_versions, "NEWEST", (9, 1))
    monkeypatch.setattr(cassandra_versions, "_GROUPS_BY_TIME", "SELECT none(key) FROM system.local")
    with (
        CassandraClient(settings) as client,
        pytest.raises(ConfigurationError, match=r"^connecting: this is Cassandra \d\.\d"),
    ):
        _ = client.session
