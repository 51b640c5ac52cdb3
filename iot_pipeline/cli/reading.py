"""`iot reading`: the declaration that holds, what it would make of messages, a draft of one."""

import sys
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import click

from iot_pipeline.cli.output import (
    EXIT_FOUND,
    CommandGroup,
    json_option,
    print_json,
    print_table,
    say,
)
from iot_pipeline.clients.kafka_log import KafkaLog
from iot_pipeline.core.proof.dead_letters import preview as text_of
from iot_pipeline.core.reading.contents import message_reader
from iot_pipeline.core.reading.declaration import Declaration, path_text
from iot_pipeline.core.reading.differences import differences
from iot_pipeline.core.reading.formats import SchemaBook, is_frame
from iot_pipeline.core.reading.groups import DeviceGroup
from iot_pipeline.core.reading.inference import infer
from iot_pipeline.core.reading.kept_declaration import KeptDeclaration
from iot_pipeline.core.reading.messages import ReadingRules, Record
from iot_pipeline.core.reading.preview import IGNORED, READINGS, Preview, preview
from iot_pipeline.core.reading.quantities import NO_GREATEST, NO_LEAST, Quantity
from iot_pipeline.core.words import counted, iot_command
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.settings import Settings
from iot_pipeline.settings_reading import load_declaration
from iot_pipeline.stages.reading.sample import newest_records
from iot_pipeline.stages.reading.schemas import ask_for_schemas, learn_schemas

topic_option = click.option("--topic", help="Another topic than IOT_TOPIC.")
records_option = click.option(
    "--records",
    type=click.IntRange(1, 100_000),
    default=1_000,
    show_default=True,
    help="How many to look at, the newest.",
)


@click.group("reading", cls=CommandGroup)
def reading_command() -> None:
    """How messages are read: what is declared, and what it would make of a topic."""


@reading_command.command("show")
@click.argument("file", required=False)
@click.option(
    "--fingerprint", help="One that ranges were ingested by, as `iot reading list` names it."
)
@json_option
def show_command(file: str | None, fingerprint: str | None, as_json: bool) -> None:
    """Show the declaration in FILE, else the one that holds (IOT_READING)."""
    if file is not None and fingerprint is not None:
        raise ConfigurationError("say FILE or --fingerprint, not both")
    settings = Settings.from_env()
    if fingerprint is not None:
        kept = _kept(fingerprint, settings)
        declared, source = kept.read(), "the declaration that was kept"
    else:
        declared, source = _declaration(file, settings)
    if as_json:
        print_json({"source": source, "fingerprint": declared.fingerprint, **_as_json(declared)})
        return
    say(f"{source}, fingerprint {declared.fingerprint}")
    say(f"device: {declared.device}")
    if declared.format.name != "json":
        say(f"format: {declared.format}")
    unit = f", {declared.time.unit}" if declared.time.paths else ""
    say(f"time: {declared.time}{unit}")
    print_table(
        ("quantity", "where", "unit", "type", "a reading", "plausible"),
        [_row(quantity) for quantity in declared.quantities],
    )
    for rule in declared.ignore:
        say(f"ignored where {rule}")
    if declared.groups:
        print_table(
            ("group", "devices", "limit", ""),
            [row for group in declared.groups for row in _group_rows(group)],
        )


@reading_command.command("list")
@json_option
def list_command(as_json: bool) -> None:
    """List the declarations that ranges of the topic were ingested by, the latest first."""
    from iot_pipeline.connections import open_connections

    settings = Settings.from_env()
    present = settings.declaration
    with open_connections(settings) as connections:
        kept = connections.declarations.read_declarations()
        ledger, topic = connections.ledger, settings.topic
        entries = ledger.read_entries(topic, ledger.partitions(topic))
    offsets: Counter[str] = Counter()
    for entry in entries:
        if entry.outcome.is_ingested:
            offsets[entry.declaration] += entry.span
    rows = [
        _Known(one.fingerprint, one.first_seen_at, offsets.pop(one.fingerprint, 0), one)
        for one in kept
    ]
    rows += [_Known(name, None, span) for name, span in sorted(offsets.items())]
    if as_json:
        print_json(
            {
                "topic": topic,
                "present": present.fingerprint,
                "declarations": [row.as_dict(present) for row in rows],
            }
        )
        return
    if not rows:
        setup = iot_command("setup")
        say(f"no declaration was kept yet: `{setup}` keeps the present one, the next run does too")
        return
    print_table(
        ("declaration", "first seen", "offsets", ""),
        [
            (row.fingerprint or "none named", row.first_seen_at, f"{row.offsets:,}", row.note)
            for row in rows
        ],
        title=f"{topic}: the present declaration is {present.fingerprint}",
    )
    for row in rows:
        if differing := row.differences(present):
            say(f"{row.fingerprint}: {'; '.join(differing)}")


@dataclass(frozen=True, slots=True)
class _Known:
    """A declaration that the ledger names, or that was kept; old entries name none."""

    fingerprint: str
    first_seen_at: datetime | None
    offsets: int
    kept: KeptDeclaration | None = None

    @property
    def note(self) -> str:
        return "" if self.kept is not None or not self.fingerprint else "not kept"

    def differences(self, present: Declaration) -> list[str]:
        """To the present one."""
        return [] if self.kept is None else differences(self.kept.read(), present)

    def as_dict(self, present: Declaration) -> dict[str, object]:
        return {
            "fingerprint": self.fingerprint,
            "first_seen_at": self.first_seen_at,
            "offsets": self.offsets,
            "is_kept": self.kept is not None,
            "differences": self.differences(present),
        }


def _kept(fingerprint: str, settings: Settings) -> KeptDeclaration:
    from iot_pipeline.connections import open_connections

    with open_connections(settings) as connections:
        known = connections.declarations.read_declarations()
    for kept in known:
        if kept.fingerprint == fingerprint:
            return kept
    names = ", ".join(kept.fingerprint for kept in known) or "none"
    raise ConfigurationError(
        f"--fingerprint {fingerprint}: it was not kept; kept are {names} "
        f"(`{iot_command('reading', 'list')}`)"
    )


@reading_command.command("check")
@click.argument("file", required=False)
@topic_option
@records_option
@json_option
def check_command(file: str | None, topic: str | None, records: int, as_json: bool) -> None:
    """Say what the newest messages would become by the declaration in FILE; nothing is written.

    Without FILE by the one that holds. Exit code 1: some would be dead letters.
    """
    settings = Settings.from_env()
    declared, source = _declaration(file, settings)
    topic = topic or settings.topic
    rules = replace(settings.reading_rules, declaration=declared)
    found = preview(_newest(settings, topic, records, rules), rules)
    if as_json:
        print_json(_preview_json(found, topic, source, declared))
    else:
        _print_preview(found, topic, source, declared)
    if found.rejected:
        sys.exit(EXIT_FOUND)


@reading_command.command("infer")
@topic_option
@records_option
def infer_command(topic: str | None, records: int) -> None:
    """Write a first declaration from the newest messages of a topic, to be edited, on stdout."""
    settings = Settings.from_env()
    topic = topic or settings.topic
    found = _newest(settings, topic, records)
    values = [record.value for record in found]
    framed = sum(1 for value in values if value and is_frame(value))
    if framed * 2 > len(values) and settings.registry_url:
        from iot_pipeline.connections import schemas_of

        book = SchemaBook()
        ids = book.missing(values)
        ask_for_schemas(book, schemas_of(settings), values, settings.retry_seconds)
        text = infer(found, topic, *message_reader(book, ids))
    else:
        text = infer(found, topic)
    for line in text.splitlines():
        say(line)
    say(
        f"a draft: save it, edit it, then `{iot_command('reading', 'check', 'FILE')}`; "
        "IOT_READING=FILE makes it hold",
        err=True,
    )


def _newest(
    settings: Settings, topic: str, count: int, rules: ReadingRules | None = None
) -> list[Record]:
    """The newest records; the rules know what their schemas are."""
    with closing(KafkaLog(settings)) as log:
        records = newest_records(log, topic, count, settings.retry_seconds)
    if rules is not None and rules.declaration.format.asks_registry:
        from iot_pipeline.connections import schemas_of

        values = [record.value for record in records]
        learn_schemas(rules, schemas_of(settings), values, settings.retry_seconds)
    return records


def _declaration(file: str | None, settings: Settings) -> tuple[Declaration, str]:
    """A declaration and what it is called."""
    if file is not None:
        return load_declaration(Path(file).absolute(), file), file
    return settings.declaration, settings.reading or "the original message (IOT_READING is not set)"


def _row(quantity: Quantity) -> tuple[str, ...]:
    where = " or ".join(map(path_text, quantity.places))
    if quantity.is_converted:
        where += f", × {quantity.scale:g} {'-' if quantity.shift < 0 else '+'} "
        where += f"{abs(quantity.shift):g}"
    kind = f"{quantity.type}, optional" if quantity.optional else quantity.type
    return (
        quantity.name,
        where,
        quantity.unit,
        kind,
        _within(quantity.least, quantity.greatest),
        _within(quantity.plausible_least, quantity.plausible_greatest),
    )


def _group_rows(group: DeviceGroup) -> list[tuple[str, str, str, str]]:
    """A row for each limit of a group; its name and its devices stand in the first."""
    limits = list(group.limits)
    if group.retention_days is not None:
        limits.append(("retention_days", group.retention_days))
    said = [(name, f"{value:g}") for name, value in limits] or [("", "")]
    first = (group.name, ", ".join(group.patterns))
    return [(*(first if at == 0 else ("", "")), *one) for at, one in enumerate(said)]


def _within(least: float, greatest: float) -> str:
    if (least, greatest) == (NO_LEAST, NO_GREATEST):
        return "any"
    if least == NO_LEAST:
        return f"to {greatest:g}"
    return f"from {least:g}" if greatest == NO_GREATEST else f"{least:g} to {greatest:g}"


def _as_json(declared: Declaration) -> dict[str, object]:
    return {
        "format": declared.format.name,
        "device": str(declared.device),
        "time": str(declared.time),
        "time_unit": declared.time.unit if declared.time.paths else None,
        "quantities": {
            quantity.name: {
                "where": [path_text(path) for path in quantity.places],
                "unit": quantity.unit,
                "type": quantity.type,
                "optional": quantity.optional,
                "scale": quantity.scale,
                "shift": quantity.shift,
                "min": None if quantity.least == NO_LEAST else quantity.least,
                "max": None if quantity.greatest == NO_GREATEST else quantity.greatest,
            }
            for quantity in declared.quantities
        },
        "ignore": [str(rule) for rule in declared.ignore],
        "groups": [
            {
                "name": group.name,
                "devices": group.patterns,
                "limits": dict(group.limits),
                "retention_days": group.retention_days,
            }
            for group in declared.groups
        ],
    }


def _preview_json(
    found: Preview, topic: str, source: str, declared: Declaration
) -> dict[str, object]:
    return {
        "topic": topic,
        "source": source,
        "fingerprint": declared.fingerprint,
        "records": found.records,
        "rejected": found.rejected,
        "fates": {
            name: {
                "records": fate.records,
                "partition": fate.example.partition,
                "offset": fate.example.offset,
                "example": fate.said,
            }
            for name, fate in found.fates.items()
        },
        "values": {name: {"min": low, "max": high} for name, (low, high) in found.ends.items()},
        "devices": len(found.devices),
        "devices_by_group": {
            group.name: devices
            for group, devices in found.devices_by_group(declared.groups).items()
            if group is not None
        },
    }


def _print_preview(found: Preview, topic: str, source: str, declared: Declaration) -> None:
    if not found.records:
        say(f"{topic} holds no record")
        return
    order = sorted(found.fates, key=lambda name: (name != READINGS, name != IGNORED, name))
    print_table(
        ("would be", "records", "share", "such as"),
        [
            (
                name,
                f"{fate.records:,}",
                f"{fate.records / found.records:.1%}",
                f"{fate.example.partition}:{fate.example.offset} {fate.said}",
            )
            for name in order
            for fate in [found.fates[name]]
        ],
        title=f"{topic}: {counted(found.records, 'record')}, the newest, read by {source}",
    )
    if found.ends:
        print_table(
            ("quantity", "unit", "least", "greatest"),
            [
                (quantity.name, quantity.unit, *(f"{end:g}" for end in found.ends[quantity.name]))
                for quantity in declared.quantities
                if quantity.name in found.ends
            ],
        )
    if declared.groups and found.devices:
        _print_groups(found, declared)
    for name in order:
        fate = found.fates[name]
        if name not in (READINGS, IGNORED):
            say(f"{name}: {text_of(fate.example.value, 200)}")
    say("nothing was written")


def _print_groups(found: Preview, declared: Declaration) -> None:
    by_group = found.devices_by_group(declared.groups)
    print_table(
        ("group", "devices seen"),
        [(group.name, f"{by_group[group]:,}") for group in declared.groups]
        + [("none of these", f"{by_group[None]:,}")],
    )
    for group in declared.groups:
        if not by_group[group]:
            pattern = " or ".join(group.patterns)
            is_named = any(map(group.has, found.devices))
            why = "earlier groups have them all" if is_named else f"none is called {pattern}"
            say(f"the group {group.name} has none of these devices: {why}")
