"""`iot drain --plan`: what a drain would do, and what the table lacks for it."""

import sys
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime

from iot_pipeline.cli.output import EXIT_FOUND, print_json, print_table, say
from iot_pipeline.connections import open_connections
from iot_pipeline.core.checks.schema import Difference
from iot_pipeline.core.ingest.throttle import Limit, SetLimit, choose_limit
from iot_pipeline.core.reading.preview import READINGS, Preview
from iot_pipeline.core.times import in_words
from iot_pipeline.core.words import counted
from iot_pipeline.settings import Settings
from iot_pipeline.stages.ingest.look_ahead import FIRST_RECORDS, Ahead
from iot_pipeline.stages.ingest.planning import Plan

_EXAMPLE_CHARACTERS = 200


def show_plan(
    settings: Settings,
    *,
    max_records: int | None,
    partitions: AbstractSet[int] | None,
    limit: SetLimit | None,
    as_json: bool,
) -> None:
    """Print it; exit code 1 where records would be refused, a partition left, or a table lacks."""
    with open_connections(settings) as connections:
        plan, ahead, differences = connections.plan_ahead(max_records, partitions)
        kept = connections.throttles.read_limit(settings.topic)
    by_setting = Limit(settings.max_rows_per_second, settings.max_bytes_per_second)
    holds = choose_limit(by_setting, limit, kept)
    if as_json:
        print_json(_as_dict(plan, ahead, differences))
    else:
        _print(plan, ahead, differences, holds)
    if ahead.rejected or plan.stopped or any(item.is_fatal for item in differences):
        sys.exit(EXIT_FOUND)


def _print(plan: Plan, ahead: Ahead, differences: list[Difference], limit: Limit) -> None:
    waits = sum(item.span for item in plan.ingest)
    if not plan.ingest:
        say(f"nothing lags in {plan.topic.name}" if not plan.stopped else "nothing can be drained")
    else:
        print_table(
            ("partition", "from", "to", "records at most", "looked at", "readings", "refused"),
            [
                (
                    item.range.partition,
                    item.range.start,
                    item.range.end,
                    f"{item.range.span:,}",
                    f"{item.found.records:,}",
                    f"{_readings(item.found):,}",
                    f"{item.found.rejected:,}",
                )
                for item in ahead.partitions
            ],
            title=f"{plan.topic.name}: {counted(waits, 'offset')} would be drained",
        )
        for sentence in ahead.sentences():
            say(sentence)
        if limit:
            takes = in_words(limit.seconds_for_lag(waits))
            say(f"at {limit} it takes {takes} at least")
    for partition, why in sorted(plan.stopped.items()):
        say(f"partition {partition} would be left: {why}")
    for difference in differences:
        say(f"the table: {difference}")
    say("nothing was written")


def _readings(found: Preview) -> int:
    return found.fates[READINGS].records if READINGS in found.fates else 0


def _as_dict(plan: Plan, ahead: Ahead, differences: list[Difference]) -> dict[str, object]:
    return {
        "topic": plan.topic.name,
        "planned_at": datetime.now(UTC),
        "first_records": FIRST_RECORDS,
        "ranges": [
            {
                "partition": item.range.partition,
                "start": item.range.start,
                "end": item.range.end,
                "looked_at": item.found.records,
                "fates": {name: fate.records for name, fate in item.found.fates.items()},
                "unreadable": [str(offsets) for offsets in item.unreadable],
            }
            for item in ahead.partitions
        ],
        "not_declared": {
            name: {"records": seen.records, "partition": seen.partition, "offset": seen.offset}
            for name, seen in sorted(ahead.fields.seen.items())
        },
        "stopped": {str(p): str(why) for p, why in sorted(plan.stopped.items())},
        "differences": [str(item) for item in differences],
    }
