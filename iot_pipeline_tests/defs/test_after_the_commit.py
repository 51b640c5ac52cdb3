"""A run whose rows are committed is a success, whatever becomes of the questions it asks then."""

from collections.abc import Callable

import pytest
from confluent_kafka.admin import AdminClient

from iot_pipeline.artifacts.kept import last_drawing
from iot_pipeline.definitions import build_definitions
from iot_pipeline.defs import ingest_run
from iot_pipeline.defs import rollups as rollup_run
from iot_pipeline.stages.rollups.rebuild import rebuild_day
from iot_pipeline.stages.run_ingest import IngestOutcome
from iot_pipeline_tests.defs.conftest import Dagster, Outcome
from iot_pipeline_tests.load import fleet, produce
from iot_pipeline_tests.pipeline import Pipeline
from iot_pipeline_tests.servers import OwnServices, Services

pytestmark = pytest.mark.services

QUICK = {
    "resources": {
        "kafka": {"config": {"timeout_seconds": 1.0}},
        "cassandra": {"config": {"request_timeout_seconds": 1.0}},
    }
}
SENT = 100
Freeze = Callable[[str], None]


@pytest.fixture
def thawing(services: Services):
    """Freeze a server as a hanging disk would; it goes on when the test ends."""
    assert isinstance(services, OwnServices), "servers of another cannot be frozen"
    frozen: list[str] = []

    def freeze(name: str) -> None:
        if name not in frozen:
            services.sigstop(name)
            frozen.append(name)

    yield freeze
    for name in frozen:
        services.sigcont(name)


@pytest.fixture
def unread(pipeline: Pipeline) -> None:
    """Readings, and a record that is none: its letter is a question as well."""
    produce(pipeline.brokers, pipeline.topic, fleet("d", 5, SENT))
    produce(pipeline.brokers, pipeline.topic, [(b"d", b"not a reading")])


def when_all_is_committed(monkeypatch: pytest.MonkeyPatch, then: Callable[[], object]) -> None:
    plain = ingest_run._RunLog.committed

    def committed(self: ingest_run._RunLog, outcome: IngestOutcome) -> None:
        plain(self, outcome)
        if outcome.drained.done_offsets == outcome.drained.planned_offsets:
            then()

    monkeypatch.setattr(ingest_run._RunLog, "committed", committed)


def materialized(outcome: Outcome) -> dict[str, object]:
    assert outcome.is_success, outcome.failure
    assert outcome.metadata is not None, "no materialization"
    return outcome.metadata


@pytest.mark.parametrize(("server", "word"), [("kafka", "Kafka"), ("cassandra", "Cassandra")])
def test_a_server_that_hangs_right_after_the_last_commit_is_a_check_that_could_not_look(
    dagster: Dagster,
    pipeline: Pipeline,
    unread: None,
    thawing: Freeze,
    monkeypatch: pytest.MonkeyPatch,
    server: str,
    word: str,
) -> None:
    when_all_is_committed(monkeypatch, lambda: thawing(server))
    outcome = dagster.launch("ingest", QUICK)
    told = materialized(outcome)
    assert told["stored"] == SENT
    assert told["rejected"] == 1
    assert "lag_offsets" not in told, "it is not known"
    assert "could not be read" in str(told["in_words"])
    own = "topic_is_safe" if server == "kafka" else "schema_matches"
    for check in (own, "lag_is_within_limit"):
        sentence = str(outcome.red[check])
        assert sentence.startswith("Could not look: ")
        assert word in sentence
    assert "not drawn" in str(told["pictures"])
    if server == "kafka":
        summary = outcome.observed["iot/dead_letters"]["summary"]
        assert "1 record could not be readings; why was not read: " in summary


def test_letters_and_pictures_that_cannot_be_had_do_not_fail_the_run(
    dagster: Dagster, pipeline: Pipeline, unread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A disk without room, or without permission, refuses as this does.
    last_drawing(pipeline.settings).path.mkdir(parents=True)

    def drop_the_letters() -> None:
        admin = AdminClient({"bootstrap.servers": pipeline.brokers})
        asked = admin.delete_topics([pipeline.settings.dead_letter_topic])
        asked[pipeline.settings.dead_letter_topic].result(timeout=30)

    when_all_is_committed(monkeypatch, drop_the_letters)
    outcome = dagster.launch("ingest")
    told = materialized(outcome)
    assert told["stored"] == SENT
    assert str(told["pictures"]).startswith("not drawn: ")
    assert "why was not read: " in outcome.observed["iot/dead_letters"]["summary"]
    assert "missing" in str(outcome.red["topic_is_safe"])


def test_a_day_that_is_rolled_up_is_materialized_though_cassandra_hangs_then(
    dagster: Dagster,
    pipeline: Pipeline,
    thawing: Freeze,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("IOT_ROLLUP_START", "2024-12-28")
    dagster = Dagster(build_definitions(), dagster.instance)
    produce(pipeline.brokers, pipeline.topic, fleet("d", 5, SENT))
    assert dagster.materialize().is_success

    def rebuild(*given: object, **more: object) -> object:
        done = rebuild_day(*given, **more)  # type: ignore[arg-type]
        thawing("cassandra")
        return done

    monkeypatch.setattr(rollup_run, "rebuild_day", rebuild)
    monkeypatch.setenv("IOT_RETRY_SECONDS", "0")
    outcome = dagster.launch("rollups", QUICK, partition_key="2024-12-29")
    told = materialized(outcome)
    # Other tests have readings of that day in the keyspace of the session.
    assert told["readings"] >= SENT
    assert "not drawn: " in str(told["days"])
    for check in outcome.checks.values():
        assert not check.passed
        assert "Could not look: " in str(check.description)
