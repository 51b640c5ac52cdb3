"""What a tick, a plan and a run's checks ask Cassandra does not grow with the past."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from iot_pipeline.clients.cassandra import CassandraClient
from iot_pipeline.connections import Connections, Tables
from iot_pipeline.core.ledger.chain import LOSSES
from iot_pipeline.core.reading.spans import BUCKETS
from iot_pipeline.settings import Settings
from iot_pipeline.stages.checks.machinery.facts import Facts
from iot_pipeline.stages.checks.machinery.row_counts import count_days
from iot_pipeline.stages.checks.row_count_matches_ledger import days_alone
from iot_pipeline.stages.ingest.planning import make_plan
from iot_pipeline_tests.load import fleet, produce
from iot_pipeline_tests.long_history import entries_until, write_ledger, write_rows
from iot_pipeline_tests.pipeline import Pipeline

pytestmark = pytest.mark.services


class CountingCassandra(CassandraClient):
    """Counts the answers that come, and the rows in them: what was asked for, whoever uses it."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.answers = self.rows = 0

    def _profile(self, datacenter: str, make_rows: Any) -> Any:
        def count(names: Any, rows: Any) -> Any:
            self.answers += 1
            self.rows += len(rows)
            return make_rows(names, rows)

        return super()._profile(datacenter, count)


@dataclass(frozen=True)
class Work:
    """What one question cost."""

    answers: int
    rows: int


@pytest.fixture
def keyspace() -> str:
    """A keyspace of this test's own: it gets a past."""
    return f"iot_test_{uuid.uuid4().hex[:10]}"


@pytest.fixture
def counting(settings: Settings) -> Iterator[CountingCassandra]:
    with CountingCassandra(settings) as client:
        yield client


def _questions(
    pipeline: Pipeline, client: CassandraClient, now: datetime
) -> dict[str, Callable[[], object]]:
    topic, parts = pipeline.topic, range(4)
    asking = Connections(pipeline.settings, pipeline.connections.log, client)
    ledger, rows, known = asking.ledger, asking.rows, asking.days

    def facts(later: timedelta = timedelta()) -> Facts:
        return Facts(asking, now + later)

    return {
        "plan": lambda: make_plan(pipeline.log, ledger, topic),
        "last hour": lambda: facts().recent,
        "counts": lambda: count_days(
            ledger, rows, known, topic, parts, [now.date()], budget_seconds=60
        ),
        "days": lambda: days_alone(facts()),
        # Long after the last run there is no recent entry to stop at.
        "days after a silence": lambda: days_alone(facts(timedelta(days=9))),
        "ranges": lambda: facts().newest_ingested,
        "losses": lambda: ledger.read_entries(topic, parts, outcomes=LOSSES),
    }


def _measure(pipeline: Pipeline, client: CountingCassandra, now: datetime) -> dict[str, Work]:
    found = {}
    for name, ask in _questions(pipeline, client, now).items():
        ask()  # prepares its statements
        client.answers = client.rows = 0
        ask()
        found[name] = Work(client.answers, client.rows)
    return found


def test_a_past_ten_times_as_long_is_no_question_and_no_row_more(
    pipeline: Pipeline, counting: CountingCassandra
) -> None:
    now = datetime.now(UTC)
    topic_id = pipeline.log.topic_id(pipeline.topic)
    # Nothing of it is of the last hour: how much that is is the load's, not the past's.
    last_run_at = now - timedelta(hours=2)
    work = []
    for days, runs in ((30, 250), (300, 1000)):
        entries = [
            entry
            for partition in range(4)
            for entry in entries_until(
                pipeline.topic, partition, last_run_at, folded_days=days, runs=runs, span=1
            )
        ]
        write_ledger(counting, topic_id, entries)
        for partition in range(4):
            # A log as long as the ledger says would take a while; the plan wants one not shorter.
            end = max(e.end_offset for e in entries if e.partition == partition)
            _fill(pipeline, partition, end)
        work.append(_measure(pipeline, counting, now))
    assert work[0] == work[1]
    # A page of new entries per partition at most, though none is new; a list of devices is one
    # answer per bucket.
    most = 16 + BUCKETS
    assert all(one.rows <= 4 * 201 and one.answers <= most for one in work[1].values()), work[1]


def _fill(pipeline: Pipeline, partition: int, end: int) -> None:
    marks = {mark.partition: mark.last_stable for mark in pipeline.log.watermarks(pipeline.topic)}
    missing = end - marks[partition]
    messages = ((key, b"x") for key, _ in fleet("p", 3, missing))
    produce(pipeline.brokers, pipeline.topic, messages, partition=partition)


def test_counting_a_day_with_many_devices_asks_for_no_other_day(
    pipeline: Pipeline, counting: CountingCassandra
) -> None:
    today = datetime.now(UTC).date()
    write_rows(counting, [today - timedelta(days=back) for back in range(20)], devices=30)
    tables = Tables(counting)
    for _ in range(2):
        counting.answers = counting.rows = 0
        (found,) = count_days(
            tables.ledger,
            tables.rows,
            tables.days,
            pipeline.topic,
            range(4),
            [today],
            budget_seconds=60,
        )
    assert found.rows == 30
    # 30 counts, the devices of each bucket, and both ledgers before and after.
    assert counting.answers == 30 + BUCKETS + 2 * 5
    assert counting.rows == 30 + 30 + 2 * 5


def test_no_time_left_means_nothing_more_is_asked(
    pipeline: Pipeline, counting: CountingCassandra
) -> None:
    today = datetime.now(UTC).date()
    write_rows(counting, [today], devices=200)
    ticks = iter(range(1_000_000))
    tables = Tables(counting)
    (found,) = count_days(
        tables.ledger,
        tables.rows,
        tables.days,
        pipeline.topic,
        range(4),
        [today],
        budget_seconds=20,
        clock=lambda: float(next(ticks)),
    )
    assert not found.is_whole
    assert counting.answers < 60
