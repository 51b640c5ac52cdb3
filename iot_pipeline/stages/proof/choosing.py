"""Which offsets an audit is asked about: by when they arrived, or by what was measured on a day."""

from datetime import UTC, date, datetime, timedelta

from iot_pipeline.core.proof.audited_days import ranges_of_day
from iot_pipeline.core.reading.offsets import OffsetRange, join_ranges
from iot_pipeline.stages.ingest.planning import read_states
from iot_pipeline.stages.ledger.chain import first_present, read_present
from iot_pipeline.stages.proof.ports import AuditPorts


def choose_ranges(
    ports: AuditPorts, since: datetime | None = None, until: datetime | None = None
) -> list[OffsetRange]:
    """What the ledger has of the present log, and what lags; or what arrived within a time."""
    log, ledger, topic = ports.log, ports.ledger, ports.settings.topic
    _, checkpoints, states = read_states(log, ledger, topic)
    starts, ends = {}, {}
    for state in states:
        checkpoint = checkpoints.get(state.partition)
        starts[state.partition] = state.low
        if checkpoint is not None:
            starts[state.partition] = first_present(ledger, topic, checkpoint, state.low)
        ends[state.partition] = state.last_stable
    if since is not None:
        at = log.offsets_at(topic, since)
        starts = {p: max(start, at[p]) for p, start in starts.items()}
    if until is not None:
        at = log.offsets_at(topic, until)
        ends = {p: min(end, at[p]) for p, end in ends.items()}
    return [OffsetRange(p, starts[p], ends[p]) for p in sorted(starts) if ends[p] > starts[p]]


def choose_day(ports: AuditPorts, day: date) -> list[OffsetRange]:
    """What arrived in Kafka on a UTC day, and whatever has readings of it, by the ledger.

    Ranges of the ledger are taken whole; those of past days are one for each day of arrival.
    """
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    arrived = choose_ranges(ports, midnight, midnight + timedelta(days=1))
    log, ledger, topic = ports.log, ports.ledger, ports.settings.topic
    _, checkpoints, states = read_states(log, ledger, topic)
    lows = {state.partition: state.low for state in states}
    ends = {state.partition: state.last_stable for state in states}
    measured = [
        # A log that was cut back is shorter than its ledger.
        OffsetRange(item.partition, item.start, min(item.end, ends[item.partition]))
        for item in ranges_of_day(read_present(ledger, topic, checkpoints, lows, day=day), day)
        if item.start < ends.get(item.partition, 0)
    ]
    return join_ranges([*arrived, *measured])
