from collections.abc import Iterator
from datetime import UTC, datetime

import click

from iot_pipeline.cli.output import (
    exit_as_found,
    exit_code_option,
    json_option,
    print_json,
    print_table,
    say,
)
from iot_pipeline.connections import open_connections
from iot_pipeline.core.fleet.problems import Fleet, Trouble
from iot_pipeline.core.fleet.state import DeviceState
from iot_pipeline.core.fleet.view import natural_key
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.core.times import MS_PER_DAY, MS_PER_HOUR, in_words, moment_of
from iot_pipeline.core.words import counted
from iot_pipeline.settings import Settings
from iot_pipeline.stages.checks.machinery.facts import Facts

_SHOWN = 200


@click.command("devices")
@click.option("--silent", is_flag=True, help="Only those that should have reported and did not.")
@click.option("--problems", is_flag=True, help="Only those with a problem, and what was seen.")
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=_SHOWN,
    show_default=True,
    help="List no more than this; with --json all unless it is given.",
)
@exit_code_option("a device has a problem (with --silent: is silent)")
@json_option
@click.pass_context
def devices_command(
    context: click.Context,
    silent: bool,
    problems: bool,
    limit: int,
    has_exit_code: bool,
    as_json: bool,
) -> None:
    """List devices with their newest reading and how they are, those with problems first.

    What is wrong is decided as by the checks: silent, a wrong clock, late, stuck, implausible or
    incomplete, by the limits that `iot settings` lists. Silence is counted from when the last
    reading arrived, up to what is ingested: what waits in Kafka makes no device silent.
    """
    settings = Settings.from_env()
    with open_connections(settings) as connections:
        say("looking at devices", err=True)
        fleet = Facts(connections, datetime.now(UTC)).fleet
    silent_ones = {problem.device_id for problem in fleet.problems[Trouble.SILENT]}
    words = {name: said for name, said, _ in fleet.worst}
    names = [*words, *sorted(fleet.states.keys() - words.keys(), key=natural_key)]
    if silent:
        names = [problem.device_id for problem in fleet.problems[Trouble.SILENT]]
    elif problems:
        names = list(words)
    if as_json:
        is_limited = context.get_parameter_source("limit") is click.core.ParameterSource.COMMANDLINE
        shown = names[:limit] if is_limited else names
        print_json(
            {
                "devices": [_as_dict(name, fleet, silent_ones) for name in shown],
                "listed": len(names),
                "silent": len(silent_ones),
                "with_problems": len(words),
                "known": fleet.known,
                "not_looked_at": fleet.unlooked,
                "days": settings.quality_limits.expected_days,
            }
        )
    else:
        _print(names[:limit], fleet, words, is_narrow=silent or problems)
        if len(names) > limit:
            say(f"and {len(names) - limit:,} more: --limit, or --json for all")
        for line in _summary(
            fleet, len(silent_ones), len(words), settings.quality_limits.expected_days
        ):
            say(line)
    exit_as_found(has_exit_code, bool(silent_ones if silent else words))


def _print(shown: list[str], fleet: Fleet, words: dict[str, str], *, is_narrow: bool) -> None:
    if shown and is_narrow:
        seen = {name: sentence for name, _, sentence in fleet.worst}
        print_table(["device", "problem", "what was seen"], [(n, words[n], seen[n]) for n in shown])
    elif shown:
        units = [quantity.unit for quantity in QUANTITIES]
        print_table(
            ["device", "newest reading", *units, "reports every", "today", "problem"],
            [(*_row(name, fleet), words.get(name, "")) for name in shown],
        )


def _summary(fleet: Fleet, silent: int, troubled: int, days: int) -> Iterator[str]:
    yield (
        f"{counted(fleet.known, 'device')} reported in the last {days} days, "
        f"{silent:,} of them silent, {troubled:,} with a problem"
    )
    if fleet.unlooked:
        yield f"{fleet.unlooked:,} of them were not looked at: there was no time for it"
    if fleet.states and silent == len(fleet.states):
        yield "all are silent: is ingestion running? `iot lag` says how far behind it is"


def _count_today(state: DeviceState, as_of_ms: int) -> int:
    first = as_of_ms // MS_PER_DAY * (MS_PER_DAY // MS_PER_HOUR)
    return sum(count for hour, count in state.hours.items() if hour >= first)


def _row(name: str, fleet: Fleet) -> tuple[object, ...]:
    state = fleet.states[name]
    usual = state.arrival_interval_ms
    return (
        name,
        moment_of(state.measured_ms),
        *(f"{value:g}" for value in state.values),
        in_words(usual / 1000) if usual else "?",
        f"{_count_today(state, fleet.as_of_ms):,}",
    )


def _as_dict(name: str, fleet: Fleet, silent: set[str]) -> dict[str, object]:
    state = fleet.states[name]
    usual = state.arrival_interval_ms
    return {
        "device_id": name,
        "newest": {
            "timestamp": moment_of(state.measured_ms),
            "arrived_at": moment_of(state.arrived_ms),
            **{q.name: value for q, value in zip(QUANTITIES, state.values, strict=True)},
        },
        "count_today": _count_today(state, fleet.as_of_ms),
        "cadence_seconds": round(usual / 1000, 3) if usual else None,
        "silent_since": (moment_of(state.arrived_ms) if name in silent else None),
        "problems": [
            {"problem": problem.trouble.value, "seen": problem.sentence}
            for problem in fleet.by_device.get(name, ())
        ],
    }
