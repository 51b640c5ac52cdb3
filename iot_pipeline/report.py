"""`iot report` from open connections: facts gathered, checks judged, page drawn, files written.

`cli.report` and `defs.report` both stand on it; its answers are `core.fleet.report`, its page is
`artifacts.report`.
"""

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

from iot_pipeline.connections import Connections
from iot_pipeline.core.fleet.report import Health
from iot_pipeline.core.ledger.chain import sum_counts
from iot_pipeline.core.ledger.losses import find_losses, sum_losses
from iot_pipeline.core.reading.lag import total_lag
from iot_pipeline.errors import ConfigurationError, SchemaMismatchError
from iot_pipeline.files import whole_file, why_unwritable
from iot_pipeline.stages.checks.machinery.facts import Facts
from iot_pipeline.stages.checks.machinery.registry import all_checks, look_at
from iot_pipeline.stages.fleet.view import view_fleet
from iot_pipeline.stages.ledger.chain import read_chain
from iot_pipeline.stages.proof.dead_letters import read_newest_letters

REPORTS = "reports"
LATEST = "latest.html"
_REPORT_NAME = "%Y-%m-%dT%H-%M-%SZ.html"
_NEWEST_LETTERS = 1000


def write_report(connections: Connections) -> tuple[Health, Path, Path]:
    """Look at everything, judge every check, write one page into the data folder's `reports/`.

    Returns:
        What it says, the page, and the same page under the name that stays.

    Raises:
        TransientError: Kafka or Cassandra did not answer.
        SchemaMismatchError: a topic or table is not there.
        ConfigurationError: the data folder keeps no file; nothing was asked by then.
    """
    folder = connections.settings.data_dir / REPORTS
    if why := why_unwritable(folder):
        raise ConfigurationError(
            f"IOT_DATA_DIR={connections.settings.data_dir}: the report cannot be kept in {folder}: "
            f"{why}; expected a folder that can be written to"
        )
    # A second of imports, only when a page is made.
    from iot_pipeline.artifacts.report import render_report

    now = datetime.now(UTC)
    health = _gather(connections, now)
    page = render_report(health)
    path, latest = folder / now.strftime(_REPORT_NAME), folder / LATEST
    for place in (path, latest):
        with whole_file(place) as partial:
            partial.write_text(page, encoding="utf-8")
    return health, path, latest


def _gather(connections: Connections, now: datetime) -> Health:
    """Losses that a person has acknowledged are not counted again."""
    topic, facts = connections.settings.topic, Facts(connections, now)
    chain = read_chain(connections.ledger, topic, facts.parts)
    losses = find_losses(chain.entries, connections.acknowledgements.acknowledged_losses(topic))
    return Health(
        now,
        topic,
        sum_counts(entry.counts for entry in chain.entries if entry.outcome.is_ingested),
        sum_losses(loss for loss in losses if loss.acknowledgement is None),
        [str(flaw) for flaw in chain.flaws],
        total_lag(facts.lags),
        connections.audits.read_last_audit(topic),
        _count_letters(connections, now - timedelta(days=1)),
        view_fleet(connections, topic, facts.fleet, now),
        list(look_at(all_checks(), facts)),
    )


def _count_letters(connections: Connections, since: datetime) -> dict[str, int]:
    """Dead letters since then by reason, of the newest ones."""
    try:
        found = read_newest_letters(
            connections.log, connections.settings.dead_letter_topic, _NEWEST_LETTERS
        )
    except SchemaMismatchError:
        return {}  # the topic is not made yet: `topic_is_safe` says so, and there are no letters
    letters = (item.letter for item in found.letters)
    since_ms = since.timestamp() * 1000
    reasons = Counter(letter.reason for letter in letters if letter.delivered_ms >= since_ms)
    return dict(reasons.most_common())


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
