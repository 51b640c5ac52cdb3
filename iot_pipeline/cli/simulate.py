import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import click

from iot_pipeline.cli.output import json_option, print_json, print_table, say
from iot_pipeline.cli.progress import ProgressLine
from iot_pipeline.cli.runs import Stop
from iot_pipeline.clients.kafka_producer import open_sender
from iot_pipeline.core.simulator.manifest import Manifest
from iot_pipeline.core.simulator.scenarios import DEFAULT_SEED
from iot_pipeline.core.times import parse_duration, parse_moment
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.local.manifests import manifest_path, new_manifest_id, write_manifest
from iot_pipeline.local.scenario_files import load_scenario
from iot_pipeline.settings import Settings

if TYPE_CHECKING:
    from iot_pipeline.core.reading.messages import ReadingRules
    from iot_pipeline.core.simulator.plan import SimulationPlan
    from iot_pipeline.stages.simulator.simulation import Simulation, SimulationResult


@click.command("simulate")
@click.option("--devices", type=int, help="How many devices send, in turn.  [default: 10]")
@click.option("--rate", help="Messages a second of all devices, or max.  [default: 10]")
@click.option("--duration", help="How long to send: seconds, or 90s, 15m, 2h, 1d.")
@click.option("--count", type=int, help="How many messages to send, instead of --duration.")
@click.option(
    "--seed", type=int, help=f"Same seed, same data.  [default: {DEFAULT_SEED}, or the scenario's]"
)
@click.option("--start", help="Event time of reading one, ISO 8601.  [default: now]")
@click.option(
    "--interval", help="With --start: event time between two readings of a device, as --duration."
)
@click.option(
    "--preset",
    type=click.Choice(["seed"]),
    help="seed: the original script, 3 devices, a message a second, 900 of them.",
)
@click.option(
    "--scenario", metavar="NAME|FILE", help="A fleet from a file; `iot scenarios` lists them."
)
@click.option("--speed", help="With --scenario: 1 is live, 60 an hour in a minute, or max.")
@click.option("--since", metavar="TIME", help="With --scenario: backfill from here, full speed.")
@click.option("--until", metavar="TIME", help="With --since: to here.  [default: now]")
@json_option
def simulate_command(
    devices: int | None,
    rate: str | None,
    duration: str | None,
    count: int | None,
    seed: int | None,
    start: str | None,
    interval: str | None,
    preset: str | None,
    scenario: str | None,
    speed: str | None,
    since: str | None,
    until: str | None,
    as_json: bool,
) -> None:
    """Send a simulated fleet's readings to the topic, until done or Ctrl-C.

    \b
    Live until Ctrl-C, as fast as can be, a day's backfill, the original script:
      iot simulate --devices 50 --rate 500
      iot simulate --devices 200 --rate max --count 200000
      iot simulate --rate max --count 864000 --start 2026-01-01T00:00:00Z
      iot simulate --preset seed

    \b
    A fleet with faults, live; a day in 24 minutes; a month's backfill:
      iot simulate --scenario rough_day
      iot simulate --scenario smart_city --speed 60 --duration 1d
      iot simulate --scenario backfill_month --since 2026-01-01 --until 2026-02-01

    No two readings of a device share a millisecond and live ones are never of the future, so a
    live fleet at --rate max starts a little in the past.

    A scenario also leaves a manifest: what was really sent, and every fault with its offsets.

    Ends with what was produced and what Kafka acknowledged; after Ctrl-C with exit code 130,
    after SIGTERM with 143.
    """  # noqa: D301  (\b is click's mark for lines that stay as they are)
    # With numpy, which `--help` does without.
    from iot_pipeline.core.simulator.plan import plan_fleet, plan_scenario

    settings = Settings.from_env()
    now = datetime.now(UTC)
    duration_seconds = None if duration is None else parse_seconds("--duration", duration)
    start_at = None if start is None else parse_moment(start)
    if scenario is not None:
        plain = {
            "--devices": devices,
            "--rate": rate,
            "--count": count,
            "--interval": interval,
            "--preset": preset,
        }
        _refuse(plain, "the scenario's file says that")
        name, shape = load_scenario(scenario)
        plan = plan_scenario(
            shape,
            name=name,
            now=now,
            seed=seed,
            speed=None if speed is None else _parse_pace("--speed", speed, "a number (1 is live)"),
            duration_seconds=duration_seconds,
            start=start_at,
            since=None if since is None else parse_moment(since),
            until=None if until is None else parse_moment(until),
            max_value_bytes=settings.max_value_bytes,
        )
        manifest_id = new_manifest_id(settings.data_dir, name, now)
    else:
        _refuse(
            {"--speed": speed, "--since": since, "--until": until},
            "a plain fleet has --rate, and --start for a backfill; give --scenario too",
        )
        if preset == "seed":
            devices = 3 if devices is None else devices
            rate = "1" if rate is None else rate
            count = 900 if count is None and duration is None else count
        plan = plan_fleet(
            devices=10 if devices is None else devices,
            rate=_parse_pace("--rate", "10" if rate is None else rate, "messages a second"),
            count=count,
            duration_seconds=duration_seconds,
            seed=DEFAULT_SEED if seed is None else seed,
            start=start_at,
            interval_seconds=None if interval is None else parse_seconds("--interval", interval),
        )
        manifest_id = None
    _send(plan, manifest_id, settings, as_json)


def _send(
    plan: "SimulationPlan", manifest_id: str | None, settings: Settings, as_json: bool
) -> None:
    """Send it until it is done or a signal comes; ends with the true counts."""
    from iot_pipeline.stages.simulator.simulation import Simulation

    rules = _writing_rules(settings)
    stop, line = Stop(), ProgressLine("simulating, messages")
    with open_sender(settings) as sender:
        simulation = Simulation(
            plan,
            sender,
            rules,
            topic=settings.topic,
            manifest_id=manifest_id,
            should_stop=stop.is_asked,
            on_progress=partial(_show, line, plan),
            write=partial(write_manifest, settings.data_dir),
        )
        try:
            with line, stop:
                simulation.send()
        finally:
            # Also when it failed: what was acknowledged is in the topic, whatever came after.
            if simulation.result.produced or sys.exc_info()[0] is None:
                _print_result(simulation, settings, as_json)
    if stop.signal_number is not None:
        sys.exit(128 + stop.signal_number)


def _writing_rules(settings: Settings) -> "ReadingRules":
    """The rules, with the schema that messages are written by where they name one."""
    rules = settings.reading_rules
    if rules.declaration.format.is_framed:
        # Here, because plain messages need no HTTP client.
        from iot_pipeline.clients.registry import SchemaRegistry
        from iot_pipeline.stages.simulator.writing import learn_to_write

        learn_to_write(rules, SchemaRegistry(settings), settings.topic)
    return rules


def _show(line: ProgressLine, plan: "SimulationPlan", result: "SimulationResult") -> None:
    """How far a fleet is: of its messages, or of the seconds that it sends."""
    count, seconds = plan.expected_messages, plan.seconds
    time = "" if seconds is None else f", {result.seconds:,.0f} of {seconds:,.0f} s"
    more = f"{result.acknowledged:,} acknowledged, {result.rate:,.0f}/s{time}"
    line.show(result.produced, count, more)


def _refuse(options: Mapping[str, object], why: str) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise ConfigurationError(f"{', '.join(given)}: {why}")


def parse_seconds(option: str, text: str) -> float:
    """Seconds of a number with or without unit: 90, 90s, 15m, 2h, 1d."""
    try:
        # A leading 0 reads .5 too.
        span = f"0{text.strip()}"
        return parse_duration(span if span[-1].isalpha() else f"{span}s").total_seconds()
    except ConfigurationError:
        raise ConfigurationError(
            f"{option} {text!r}: expected seconds, or 90s, 15m, 2h, 1d"
        ) from None


def _parse_pace(option: str, text: str, expected: str) -> float | Literal["max"]:
    if text.strip().lower() == "max":
        return "max"
    try:
        return float(text)
    except ValueError:
        raise ConfigurationError(f"{option} {text!r}: expected max, or {expected}") from None


def _print_result(simulation: "Simulation", settings: Settings, as_json: bool) -> None:
    plan, result = simulation.plan, simulation.result
    manifest = None if simulation.manifest_id is None else simulation.manifest()
    if as_json:
        answer: dict[str, Any] = {
            "topic": settings.topic,
            "produced": result.produced,
            "acknowledged": result.acknowledged,
            "failed": result.failed,
            "unconfirmed": result.unconfirmed,
            "seconds": round(result.seconds, 3),
            "rate": round(result.rate, 1),
            "devices": plan.scenario.device_count,
            "seed": plan.seed,
            "start": result.start_at,
            "stopped": result.is_stopped,
        }
        if manifest is None:
            answer["interval_seconds"] = float(plan.scenario.groups[0].interval_us) / 1e6
        else:
            answer |= {
                "scenario": manifest.scenario,
                "manifest": _path(manifest, settings),
                "withheld": manifest.withheld,
                "end": manifest.end_at,
                "faults": {
                    kind: {"faults": faults, "devices": devices, "messages": messages}
                    for kind, (faults, devices, messages) in manifest.count_by_kind().items()
                },
            }
        print_json(answer)
        return
    line = (
        f"{settings.topic}: produced {result.produced:,}, acknowledged {result.acknowledged:,} "
        f"in {result.seconds:,.1f} s ({result.rate:,.1f}/s)"
    )
    if result.failed:
        line += f", failed {result.failed:,}"
    if result.unconfirmed:
        line += f", unconfirmed {result.unconfirmed:,} (these may or may not have arrived)"
    say(line)
    if manifest is None:
        return
    if kinds := manifest.count_by_kind():
        print_table(
            ["fault", "times", "devices", "messages"],
            [[kind, *(f"{count:,}" for count in counts)] for kind, counts in kinds.items()],
        )
    say(f"manifest: {_path(manifest, settings)}")


def _path(manifest: Manifest, settings: Settings) -> str:
    return str(manifest_path(settings.data_dir, manifest.manifest_id))
