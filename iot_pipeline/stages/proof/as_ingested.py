"""Each range of the log is read by the declaration that it was ingested by, where that is kept."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from iot_pipeline.core.ledger.declared import DeclaredReplay, Parts, declared_parts
from iot_pipeline.core.proof.former_reader import all_quantities
from iot_pipeline.core.reading.declaration import Declaration
from iot_pipeline.core.reading.offsets import Checkpoint, OffsetRange, PartitionState
from iot_pipeline.core.words import counted
from iot_pipeline.stages.ingest.planning import read_states
from iot_pipeline.stages.ledger.chain import read_present
from iot_pipeline.stages.ports import LedgerStore
from iot_pipeline.stages.proof.ports import AuditPorts, History, Ingested

# Of ranges that a sentence names.
_SHOWN = 3


def as_ingested(ports: AuditPorts) -> AuditPorts:
    """The same ports, reading each range as it was ingested.

    Unchanged where only the present declaration was ever kept: then the ledger is not asked, which
    may be long.

    Raises:
        PermanentError: a kept declaration cannot be read.
    """
    if ports.history is None or ports.ingested is not None:
        return ports
    present = ports.rules.declaration
    known = read_known(ports.history, present)
    if len(known) == 1:
        return ports
    ingested = read_ingested(ports, known)
    named = {quantity.name for quantity in present.quantities}
    is_wider = any(quantity.name not in named for quantity in ingested.columns)
    rows = ports.history.rows_of(ingested.columns) if is_wider else ports.rows
    return replace(ports, ingested=ingested, rows=rows)


def read_ingested(ports: AuditPorts, known: Mapping[str, Declaration] | None = None) -> Ingested:
    """By which declaration each range of the present log was ingested; `known`: the kept ones."""
    topic, present = ports.settings.topic, ports.rules.declaration
    info, checkpoints, states = read_states(ports.log, ports.ledger, topic)
    by_partition = {state.partition: state for state in states}
    replays = ports.ledger.declared_replays(topic)
    parts = read_parts(ports.ledger, topic, info.topic_id, checkpoints, by_partition, replays)
    known = known or {present.fingerprint: present}
    every = all_quantities(list(known.values()))
    there = {quantity.name for quantity in present.quantities}
    if ports.history is not None and len(known) > 1:
        # A column may be dropped when its quantity is no longer declared.
        there |= set(ports.history.columns())
    return Ingested(
        parts,
        known,
        present.fingerprint,
        tuple(quantity for quantity in every if quantity.name in there),
        letters=[one.declaration for one in replays if not one.topic_id],
        dropped=[quantity.name for quantity in every if quantity.name not in there],
    )


def read_known(history: History, present: Declaration) -> dict[str, Declaration]:
    """The present declaration, and every other one that was kept, by fingerprint."""
    kept = history.declarations.read_declarations()
    others = [one.read() for one in kept if one.fingerprint != present.fingerprint]
    return {one.fingerprint: one for one in (present, *others)}


def read_parts(
    ledger: LedgerStore,
    topic: str,
    topic_id: str,
    checkpoints: Mapping[int, Checkpoint],
    states: Mapping[int, PartitionState],
    replays: Sequence[DeclaredReplay],
) -> dict[int, Parts]:
    """By which declaration the present log is read, by Kafka partition."""
    lows = {partition: state.low for partition, state in states.items()}
    entries = read_present(ledger, topic, checkpoints, lows)
    return declared_parts(entries, [one for one in replays if one.topic_id == topic_id])


def say_ranges(ranges: Sequence[OffsetRange]) -> str:
    """A few of them, and how many offsets they are."""
    told = " ".join(map(str, ranges[:_SHOWN]))
    more = "" if len(ranges) <= _SHOWN else f" and {len(ranges) - _SHOWN:,} ranges more"
    return f"{counted(sum(item.span for item in ranges), 'offset')} ({told}{more})"
