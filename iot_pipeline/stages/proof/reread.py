"""By which declaration ranges that were ingested are replayed: that of then, or the present one.

Where they were ingested by the present one there is nothing to choose. Else a person does: `then`
writes what was written; `now` may add rows and quantities, and is refused where what is stored
would change.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from iot_pipeline.core.ledger.declared import split
from iot_pipeline.core.proof.additions import Additions
from iot_pipeline.core.proof.changes import find_added, find_change
from iot_pipeline.core.proof.log_reader import LogReader
from iot_pipeline.core.proof.stretches import RawRecords
from iot_pipeline.core.reading.by_path import Told
from iot_pipeline.core.reading.declaration import Declaration
from iot_pipeline.core.reading.differences import differences
from iot_pipeline.core.reading.messages import Ignored, Rejection
from iot_pipeline.core.reading.offsets import OffsetRange, in_rounds
from iot_pipeline.core.words import iot_command
from iot_pipeline.errors import PlanError
from iot_pipeline.stages.ingest.planning import Plan
from iot_pipeline.stages.proof.as_ingested import read_known, read_parts, say_ranges
from iot_pipeline.stages.proof.ports import AuditPorts

# What a person chooses; "": nothing, so other declarations are refused.
Choice = Literal["", "then", "now"]


@dataclass(frozen=True, slots=True)
class Reread:
    """Ranges and the declaration by which they are replayed.

    `added`: where some of them were ingested by another one, and are read by this one from now on,
    what it tells beside.
    """

    declaration: Declaration
    ranges: list[OffsetRange]
    added: Additions | None = None


def choose_reading(plan: Plan, ports: AuditPorts, choice: Choice = "") -> list[Reread]:
    """How each range of `plan.replay` is read; in this order, each by one declaration.

    Raises:
        PlanError: some were ingested by another declaration, and nothing was chosen; or it was not
            kept; or the present one would change a stored reading: the first one is named.
        PermanentError: a kept declaration cannot be read.
        TransientError: Kafka, Cassandra or the registry stayed away.
    """
    topic, present = plan.topic.name, ports.rules.declaration
    asked = {item.partition for item in plan.replay}
    checkpoints = {p: found for p, found in plan.checkpoints.items() if p in asked}
    states = {state.partition: state for state in plan.states}
    ledger, replays = ports.ledger, ports.ledger.declared_replays(topic)
    parts, _ = read_parts(ledger, topic, plan.topic.topic_id, checkpoints, states, replays)
    found = split(parts, plan.replay)
    mine = sorted([*found.pop("", []), *found.pop(present.fingerprint, [])])
    if not found:
        return [Reread(present, list(plan.replay))]
    kept = [] if ports.history is None else ports.history.declarations.read_declarations()
    letters = {one.declaration for one in replays if not one.topic_id} - {present.fingerprint}
    known = read_known(kept, present, found.keys() | letters)
    doing = f"replaying {topic}"
    for fingerprint, ranges in sorted(found.items()):
        if fingerprint not in known:
            raise PlanError(
                f"{doing}: {say_ranges(ranges)} were ingested by the declaration {fingerprint}, "
                "which was not kept, so what the present one would change is not known. `iot "
                "setup` with IOT_READING set to the file of then keeps it; replay after that"
            )
    if not choice:
        raise PlanError(f"{doing}: {_say_choice(found, known, present)}")
    if choice == "then":
        others = [Reread(known[name], ranges) for name, ranges in sorted(found.items())]
        return [*([Reread(present, mine)] if mine else []), *others]
    by_letters = {name: known.get(name) for name in sorted(letters)}
    added = Additions()
    for fingerprint, ranges in sorted(found.items()):
        changed = _first_change(ports, known[fingerprint], ranges, by_letters, added)
        if changed:
            raise PlanError(
                f"{doing} by the present declaration {present.fingerprint}: {changed}. A stored "
                f"reading is not changed: say `--reading then`, or leave it as it is"
            )
    return [Reread(present, list(plan.replay), added)]


def _say_choice(
    found: dict[str, list[OffsetRange]], known: dict[str, Declaration], present: Declaration
) -> str:
    said = [
        f"{say_ranges(ranges)} were ingested by the declaration {name} "
        f"({'; '.join(differences(known[name], present))})"
        for name, ranges in sorted(found.items())
    ]
    restore = iot_command("replay", "--run", "RUN_ID", "--reading", "then")
    return (
        f"{', and '.join(said)}; the present one is {present.fingerprint}. Say "
        "`--reading then` (in the job: `reading: then`) to write what was written, or `now` to "
        "read them by the present one, which is refused where a stored reading would change. A run "
        f"that was executed again cannot say it: use `{restore}`"
    )


def _first_change(
    ports: AuditPorts,
    then: Declaration,
    ranges: Sequence[OffsetRange],
    letters: Mapping[str, Declaration | None],
    added: Additions,
) -> str:
    """The first record whose stored reading the present declaration would change, in words.

    Args:
        letters: by which dead letters were replayed, by fingerprint; None: it was not kept.
        added: takes in what the present one tells of each record beside.
    """
    rules = ports.rules
    before, after = LogReader(replace(rules, declaration=then)), LogReader(rules)
    others = {
        name: None if other is None else LogReader(replace(rules, declaration=other))
        for name, other in letters.items()
        if name != then.fingerprint
    }
    readers = [before, after, *(reader for reader in others.values() if reader is not None)]
    for of_round in in_rounds(ranges):
        for item in of_round.values():
            added.begin(item)
        for records in ports.records.read(ports.settings.topic, list(of_round.values())):
            for reader in readers:
                ports.learn_schemas(reader, records.values)
            both = zip(records.told(before), records.told(after), strict=True)
            for at, (told, tells) in enumerate(both):
                changed = find_change(told, tells, then, rules.declaration)
                if isinstance(told, Rejection) and not isinstance(tells, Rejection):
                    changed = _change_of_letter(records.at(at), tells, others, rules.declaration)
                where = records.partitions[at], records.offsets[at]
                if changed:
                    return f"record {where[0]}:{where[1]}: {changed}"
                if not isinstance(tells, Rejection | Ignored):
                    added.note(*where, find_added(told, tells, then, rules.declaration))
    return ""


def _change_of_letter(
    message: RawRecords, tells: Told, others: Mapping[str, LogReader | None], now: Declaration
) -> str | None:
    """What changes of the row that a replayed dead letter may have made."""
    for name, reader in others.items():
        by = f"the declaration {name}, by which dead letters were replayed"
        if reader is None:
            return f"it may have been stored by {by} and which was not kept"
        (told,) = message.told(reader)
        changed = find_change(told, tells, reader.rules.declaration, now)
        if changed:
            return f"{changed} by {by}"
    return None
