from collections.abc import Sequence

from iot_pipeline.core.checks.verdicts import CheckVerdict, Severity
from iot_pipeline.core.ingest.stopped import Stop, say_stops
from iot_pipeline.core.reading.lag import PartitionLag, total_lag
from iot_pipeline.core.words import counted
from iot_pipeline.stages.checks.machinery.check import Check
from iot_pipeline.stages.checks.machinery.facts import Facts


def look(facts: Facts) -> CheckVerdict:
    """Watermarks against checkpoints, and one record of each partition that lags."""
    lags = facts.lags
    stops = facts.stops if total_lag(lags).lag_offsets else []
    return judge(lags, facts.settings.lag_limit_seconds, stops)


def judge(
    lags: Sequence[PartitionLag], limit_seconds: float, stops: Sequence[Stop] = ()
) -> CheckVerdict:
    """The oldest record that was not ingested yet, against the limit; who stands still is red."""
    total = total_lag(lags)
    numbers = {
        "lag_seconds": round(total.lag_seconds, 3),
        "lag_offsets": total.lag_offsets,
        "held_back_offsets": total.held_offsets,
        "limit_seconds": limit_seconds,
        "stopped_partitions": 0,
    }
    waits = {lag.state.partition: lag.state.lag for lag in lags if lag.state.lag}
    standing = [stop for stop in stops if stop.partition in waits]
    if standing:
        numbers["stopped_partitions"] = len(standing)
        said = say_stops(standing, waits)
        return CheckVerdict(False, said, numbers, severity=Severity.ERROR)
    waiting = f"{counted(total.lag_offsets, 'offset is', 'offsets are')} waiting, the oldest since"
    if total.unknown:
        said = (
            f"{counted(total.lag_offsets, 'offset is', 'offsets are')} waiting. "
            f"Since when is not known, because {total.unknown}"
        )
        return CheckVerdict(False, said, numbers)
    if total.lag_seconds <= limit_seconds:
        said = f"{waiting} {total.lag_seconds:.1f} s; the limit is {limit_seconds:g} s."
        if total.held_offsets:
            said += f" {total.held_offsets:,} more lie behind an open transaction."
        return CheckVerdict(True, said, numbers)
    worst = max(lags, key=lambda lag: lag.lag_seconds or 0.0)
    said = (
        f"{waiting} {total.lag_seconds:,.0f} s in partition {worst.state.partition}; the limit is "
        f"{limit_seconds:g} s. Is the sensor iot_data_lag on, do its last ticks say why they skip, "
        "and do its runs end well? If they do, more arrives than one run at a time can write; "
        "IOT_LAG_LIMIT_SECONDS is the limit."
    )
    return CheckVerdict(False, said, numbers)


CHECK = Check(
    "lag_is_within_limit",
    "How long the oldest record that was not ingested yet has waited in Kafka. Red, too, when "
    "Kafka or Cassandra did not answer: then the lag is not known. An error while a partition "
    "stands still: a run had to leave it, and none has drained it on since.",
    look,
    # Before all others: what a person looks at first, and what meets a dead server first.
    order=1,
    severity=Severity.ERROR,
    is_free=True,
    settings=("IOT_LAG_LIMIT_SECONDS",),
)
