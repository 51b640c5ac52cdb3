"""Each range of the log is read by the declaration that it was ingested by, where that is kept."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from iot_pipeline.core.ledger.chain import of_current_epoch
from iot_pipeline.core.ledger.declared import DeclaredReplay, Parts, declared_parts
from iot_pipeline.core.proof.former_reader import all_quantities
from iot_pipeline.core.reading.declaration import Declaration
from iot_pipeline.core.reading.kept_declaration import KeptDeclaration
from iot_pipeline.core.reading.offsets import Checkpoint, OffsetRange, PartitionState
from iot_pipeline.core.words import counted
from iot_pipeline.stages.ingest.planning import read_states
from iot_pipeline.stages.ledger.chain import read_present
from iot_pipeline.stages.ports.ledger import LedgerStore
from iot_pipeline.stages.proof.ports import AuditPorts, Ingested

# Of ranges that a sentence names.
_SHOWN = 3


def as_ingested(ports: AuditPorts, newest: int | None = None) -> AuditPorts:
    """The same ports, reading each range as it was ingested.

    Unchanged where only the present declaration was ever kept: then the ledger is not asked, which
    may be long.

    Args:
        newest: only of so many entries of each Kafka partition, for who looks at the end of the
            log; what is older is read by the present one.

    Raises:
        PermanentError: a kept declaration cannot be read.
    """
    history, present = ports.history, ports.rules.declaration
    if history is None or ports.ingested is not None:
        return ports
    kept = history.declarations.read_declarations()
    if all(one.fingerprint == present.fingerprint for one in kept):
        return ports
    ingested = read_ingested(ports, kept, newest)
    if not ingested.others:
        # Without a history nothing asks the ledger again.
        return replace(ports, history=None)
    named = {quantity.name for quantity in present.quantities}
    is_wider = any(quantity.name not in named for quantity in ingested.columns)
    rows = history.rows_of(ingested.columns) if is_wider else ports.rows
    return replace(ports, ingested=ingested, rows=rows)


def read_ingested(
    ports: AuditPorts, kept: Sequence[KeptDeclaration] = (), newest: int | None = None
) -> Ingested:
    """By which declaration each range of the present log was ingested.

    Args:
        kept: the declarations that there are.
        newest: as `as_ingested`.
    """
    topic, present = ports.settings.topic, ports.rules.declaration
    info, checkpoints, states = read_states(ports.log, ports.ledger, topic)
    by_partition = {state.partition: state for state in states}
    replays = ports.ledger.declared_replays(topic)
    parts, used = read_parts(
        ports.ledger, topic, info.topic_id, checkpoints, by_partition, replays, newest
    )
    letters = [one.declaration for one in replays if not one.topic_id]
    # Rows of before may lack what a later replay would have added to them.
    used |= {name for mine in parts.values() for _, name in mine}.union(letters)
    known = read_known(kept, present, used)
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
        letters,
        [quantity.name for quantity in every if quantity.name not in there],
        used - {"", present.fingerprint},
    )


def read_known(
    kept: Sequence[KeptDeclaration], present: Declaration, used: Collection[str]
) -> dict[str, Declaration]:
    """The present declaration, and those of the used ones that were kept, by fingerprint."""
    others = [one.read() for one in kept if one.fingerprint in used]
    return {present.fingerprint: present} | {one.fingerprint: one for one in others}


def read_parts(
    ledger: LedgerStore,
    topic: str,
    topic_id: str,
    checkpoints: Mapping[int, Checkpoint],
    states: Mapping[int, PartitionState],
    replays: Sequence[DeclaredReplay],
    newest: int | None = None,
) -> tuple[dict[int, Parts], set[str]]:
    """By which declaration the present log is read, by Kafka partition.

    And the fingerprints that its ledger names, of ranges that are read by a later one, too.
    """
    lows = {partition: state.low for partition, state in states.items()}
    if newest is None:
        entries = read_present(ledger, topic, checkpoints, lows)
    else:
        found = ledger.read_entries(topic, sorted(checkpoints), limit=newest)
        entries = of_current_epoch(found, checkpoints)
    parts = declared_parts(entries, [one for one in replays if one.topic_id == topic_id])
    return parts, {entry.declaration for entry in entries if entry.outcome.is_ingested}


def say_ranges(ranges: Sequence[OffsetRange]) -> str:
    """A few of them, and how many offsets they are."""
    told = " ".join(map(str, ranges[:_SHOWN]))
    more = "" if len(ranges) <= _SHOWN else f" and {len(ranges) - _SHOWN:,} ranges more"
    return f"{counted(sum(item.span for item in ranges), 'offset')} ({told}{more})"
