"""A health report from open connections: facts gathered, page drawn, files written.

The one place where the report's stage meets its page; `cli` and `defs` both stand on it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from iot_pipeline.artifacts.whole_file import whole_file
from iot_pipeline.clients.schema_store import CassandraSchema
from iot_pipeline.connections import Connections, quality_limits
from iot_pipeline.core.checks import CheckVerdict, judge_lag
from iot_pipeline.core.device_problems import Fleet
from iot_pipeline.core.fleet_verdicts import judge_fleet
from iot_pipeline.core.health import Health
from iot_pipeline.core.lag import total_lag
from iot_pipeline.stages.checks import (
    check_durability_and_schema,
    check_whole_ledger,
    recent_links,
)
from iot_pipeline.stages.fleet_keeper import look_at_fleet
from iot_pipeline.stages.health import gather_health
from iot_pipeline.stages.lag import read_lag
from iot_pipeline.stages.loss_checks import check_dead_letters, check_losses, check_retention

REPORTS = "reports"
LATEST = "latest.html"
_REPORT_NAME = "%Y-%m-%dT%H-%M-%SZ.html"


@dataclass(frozen=True, slots=True)
class WrittenReport:
    """The report's facts, its page, and the same page under the name that stays."""

    health: Health
    path: Path
    latest: Path


def look_now(connections: Connections) -> Fleet:
    """The devices by what runs have kept of them, and rows for what that does not tell.

    Raises:
        TransientError: Kafka or Cassandra did not answer.
        SchemaMismatchError: a topic or table is not there.
    """
    settings, now = connections.settings, datetime.now(UTC)
    lag = total_lag(read_lag(connections.log, connections.ledger, settings.topic, now))
    return look_at_fleet(
        connections.fleet_ports,
        quality_limits(settings),
        now,
        lag.lag_seconds,
        settings.check_seconds,
    )


def write_report(
    connections: Connections, fleet: Fleet, verdicts: Iterable[CheckVerdict]
) -> WrittenReport:
    """Look at everything else and write one page into the data folder's `reports/`.

    Args:
        connections: open.
        fleet: looked at just now; those of the verdicts that are about devices are of it.
        verdicts: of the checks, taken after the rest was read.

    Raises:
        TransientError: Kafka or Cassandra did not answer.
        SchemaMismatchError: a topic or table is not there.
    """
    # A second of imports, only when a page is made.
    from iot_pipeline.artifacts.report import render_report

    settings = connections.settings
    now = datetime.now(UTC)
    health = gather_health(
        connections,
        settings.topic,
        settings.dead_letter_topic,
        fleet,
        verdicts,
        now,
    )
    page = render_report(health)
    folder = settings.data_dir / REPORTS
    path, latest = folder / now.strftime(_REPORT_NAME), folder / LATEST
    for place in (path, latest):
        with whole_file(place) as partial:
            partial.write_text(page, encoding="utf-8")
    return WrittenReport(health, path, latest)


def delete_old_reports(data_dir: Path, now: datetime, keep_days: float) -> int:
    """How many pages were deleted: those made more than `keep_days` ago, `latest.html` never."""
    before = now - timedelta(days=keep_days)
    deleted = 0
    for path in (data_dir / REPORTS).glob("*.html"):
        try:
            made_at = datetime.strptime(path.name, _REPORT_NAME).replace(tzinfo=UTC)
        except ValueError:
            continue  # not one of ours: a person's, or the one that stays
        if made_at < before:
            path.unlink(missing_ok=True)
            deleted += 1
    return deleted


def quick_verdicts(connections: Connections, fleet: Fleet) -> Iterator[CheckVerdict]:
    """The checks that need no counting of rows: what a person at a terminal waits for."""
    settings, ledger, log = connections.settings, connections.ledger, connections.log
    topic, now = settings.topic, datetime.now(UTC)
    info = log.describe(topic)
    parts = range(info.partitions)
    lags = read_lag(log, ledger, topic, now)
    yield from check_whole_ledger(ledger, topic, parts)
    yield judge_lag(lags, settings.lag_limit_seconds)
    yield check_losses(connections.ledger_sums, connections.audit_store, topic, parts)
    yield check_retention(log, topic, lags, info.config, now)
    yield check_dead_letters(
        log,
        recent_links(ledger, topic, parts, now),
        topic,
        settings.dead_letter_topic,
        now,
        settings.dead_letter_share,
    )
    yield from check_durability_and_schema(log, CassandraSchema(connections.cassandra), settings)
    yield from judge_fleet(fleet)
