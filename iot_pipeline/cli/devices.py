from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import click

from iot_pipeline.cli.output import (
    exit_as_found,
    exit_code_option,
    json_option,
    print_json,
    print_json_list,
    print_long_table,
    print_table,
    say,
)
from iot_pipeline.connections import open_connections
from iot_pipeline.core.fleet.problems import DeviceProblem, Fleet, Trouble
from iot_pipeline.core.fleet.state import DeviceState
from iot_pipeline.core.fleet.view import natural_key
from iot_pipeline.core.times import MS_PER_DAY, MS_PER_HOUR, in_words, moment_of
from iot_pipeline.core.words import counted
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.settings import Settings
from iot_pipeline.stages.checks.machinery.facts import Facts
from iot_pipeline.stages.fleet.listing import walk_fleet
from iot_pipeline.stages.fleet.rows import FleetPorts

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
@click.option(
    "--all",
    "is_all",
    is_flag=True,
    help="Every device, by name, as they are found: a million take minutes.",
)
@exit_code_option("a device has a problem (with --silent: is silent)")
@json_option
@click.pass_context
def devices_command(
    context: click.Context,
    silent: bool,
    problems: bool,
    limit: int,
    is_all: bool,
    has_exit_code: bool,
    as_json: bool,
) -> None:
    """List devices with their newest reading and how they are, those with problems first.

    What is wrong is decided as by the checks: silent, a wrong clock, late, stuck, implausible or
    incomplete, by the limits that `iot settings` lists. Silence is counted from when the last
    reading arrived, up to what is ingested: what waits in Kafka makes no device silent.

    Of a fleet of more than about 20,000 devices a part is looked at; --all asks about each.
    """
    settings = Settings.from_env()
    is_limited = context.get_parameter_source("limit") is click.core.ParameterSource.COMMANDLINE
    if is_all and is_limited:
        raise ConfigurationError("--all and --limit: expected one of them")
    with open_connections(settings) as connections:
        say("looking at devices", err=True)
        fleet = Facts(connections, datetime.now(UTC)).fleet
        if is_all:
            listing = _Listing(connections.fleet_ports, fleet, silent, problems)
            listing.print_all(as_json)
            exit_as_found(has_exit_code, bool(listing.silent if silent else listing.troubled))
            return
    silent_ones = {problem.device_id for problem in fleet.problems[Trouble.SILENT]}
    words = {name: said for name, said, _ in fleet.worst}
    names = [*words, *sorted(fleet.states.keys() - words.keys(), key=natural_key)]
    if silent:
        names = [problem.device_id for problem in fleet.problems[Trouble.SILENT]]
    elif problems:
        names = list(words)
    if as_json:
        shown = names[:limit] if is_limited else names
        print_json(
            {
                "devices": [
                    _as_dict(name, fleet.states[name], fleet, fleet.by_device.get(name, ()))
                    for name in shown
                ],
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
        print_table(
            _columns(fleet),
            [(*_row(name, fleet.states[name], fleet), words.get(name, "")) for name in shown],
        )


def _columns(fleet: Fleet) -> list[str]:
    units = [quantity.unit or quantity.name for quantity in fleet.limits.quantities]
    return ["device", "newest reading", *units, "reports every", "today", "problem"]


@dataclass(slots=True)
class _Listing:
    """Every device, one after the other, and what was counted of them."""

    ports: FleetPorts
    fleet: Fleet
    is_silent_only: bool
    is_troubled_only: bool
    listed: int = 0
    known: int = 0
    silent: int = 0
    troubled: int = 0
    not_judged: int = 0

    def print_all(self, as_json: bool) -> None:
        found = self._found()
        if as_json:
            print_json_list(
                "devices", (_as_dict(*one[:2], self.fleet, one[2]) for one in found), self._counts
            )
            return
        print_long_table(
            _columns(self.fleet),
            (
                (
                    *_row(name, state, self.fleet),
                    ", ".join(p.trouble for p in seen) if known else "not known",
                )
                for name, state, seen, known in found
            ),
        )
        say(
            f"{self.listed:,} devices listed, of {self.known:,} that reported in the last "
            f"{self.fleet.limits.expected_days} days: {self.silent:,} silent, "
            f"{self.troubled:,} with a problem"
        )
        if self.not_judged:
            say(
                f"of {self.not_judged:,} only the newest reading was asked for: no run has kept "
                "how they are"
            )

    def _found(self) -> Iterator[tuple[str, DeviceState, list[DeviceProblem], bool]]:
        for name, state, is_known in walk_fleet(self.ports, self.fleet):
            seen = self.fleet.problems_of(name, state) if is_known else []
            is_silent = any(problem.trouble is Trouble.SILENT for problem in seen)
            self.known += 1
            self.silent += is_silent
            self.troubled += bool(seen)
            self.not_judged += not is_known
            is_left_out = (self.is_silent_only and not is_silent) or (
                self.is_troubled_only and not seen
            )
            if not is_left_out:
                self.listed += 1
                yield name, state, seen, is_known

    def _counts(self) -> dict[str, object]:
        return {
            "listed": self.listed,
            "silent": self.silent,
            "with_problems": self.troubled,
            "known": self.known,
            "not_looked_at": self.not_judged,
            "days": self.fleet.limits.expected_days,
        }


def _summary(fleet: Fleet, silent: int, troubled: int, days: int) -> Iterator[str]:
    yield (
        f"{counted(fleet.known, 'device')} reported in the last {days} days, "
        f"{silent:,} of them silent, {troubled:,} with a problem"
    )
    if fleet.unlooked:
        yield f"{fleet.unlooked:,} of them were not looked at: there was no time for it"
    elif unused := fleet.unused_groups():
        yield f"declared groups without a device: {', '.join(unused)}"
    if fleet.states and silent == len(fleet.states):
        yield "all are silent: is ingestion running? `iot lag` says how far behind it is"


def _count_today(state: DeviceState, as_of_ms: int) -> int:
    first = as_of_ms // MS_PER_DAY * (MS_PER_DAY // MS_PER_HOUR)
    return sum(count for hour, count in state.hours.items() if hour >= first)


def _row(name: str, state: DeviceState, fleet: Fleet) -> tuple[object, ...]:
    usual = state.arrival_interval_ms
    return (
        name,
        moment_of(state.measured_ms),
        *(
            quantity.shown_if_any(value)
            for quantity, value in zip(fleet.limits.quantities, state.values, strict=False)
        ),
        in_words(usual / 1000) if usual else "?",
        f"{_count_today(state, fleet.as_of_ms):,}",
    )


def _as_dict(
    name: str, state: DeviceState, fleet: Fleet, problems: Sequence[DeviceProblem]
) -> dict[str, object]:
    is_silent = any(problem.trouble is Trouble.SILENT for problem in problems)
    usual = state.arrival_interval_ms
    return {
        "device_id": name,
        "newest": {
            "timestamp": moment_of(state.measured_ms),
            "arrived_at": moment_of(state.arrived_ms),
            **{
                quantity.name: value
                for quantity, value in zip(fleet.limits.quantities, state.values, strict=True)
            },
        },
        "count_today": _count_today(state, fleet.as_of_ms),
        "cadence_seconds": round(usual / 1000, 3) if usual else None,
        "silent_since": moment_of(state.arrived_ms) if is_silent else None,
        "problems": [
            {
                "problem": problem.trouble.value,
                "seen": problem.sentence,
                "limits_of_group": problem.group or None,
            }
            for problem in problems
        ],
    }
