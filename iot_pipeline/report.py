"""A health report from open connections: facts gathered, page drawn, files written.

The one place where the report's stage meets its page; `cli` and `defs` both stand on it.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from iot_pipeline.artifacts.whole_file import whole_file
from iot_pipeline.connections import Connections
from iot_pipeline.core.fleet.problems import Fleet
from iot_pipeline.core.fleet.report import Health
from iot_pipeline.stages.checks.facts import Facts
from iot_pipeline.stages.checks.registry import all_checks, look_at
from iot_pipeline.stages.fleet.report import gather_health

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
    return Facts(connections, datetime.now(UTC)).fleet


def write_report(connections: Connections) -> WrittenReport:
    """Look at everything, judge every check, write one page into the data folder's `reports/`.

    Raises:
        TransientError: Kafka or Cassandra did not answer.
        SchemaMismatchError: a topic or table is not there.
    """
    # A second of imports, only when a page is made.
    from iot_pipeline.artifacts.report import render_report

    settings = connections.settings
    now = datetime.now(UTC)
    facts = Facts(connections, now)
    health = gather_health(
        connections,
        settings.topic,
        settings.dead_letter_topic,
        facts.fleet,
        look_at(all_checks(), facts),
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
