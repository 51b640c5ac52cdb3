"""`iot simulate`: send a fleet's readings to the topic, and say what was acknowledged."""

import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import click

from iot_pipeline.cli.output import json_option, print_json, say
from iot_pipeline.cli.scenarios import choose_scenario, send_scenario
from iot_pipeline.cli.sending import progress
from iot_pipeline.cli.signals import Stop
from iot_pipeline.clients.kafka_producer import open_sender
from iot_pipeline.core.simulator.simulation import (
    DEFAULT_SEED,
    SimulationPlan,
    parse_rate,
    parse_start,
    plan_simulation,
)
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.settings import Settings
from iot_pipeline.stages.simulator.simulation import SimulationResult, simulate

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}


@click.command("simulate")
@click.option("--devices", type=int, help="How many devices send, in turn.  [default: 10]")
@click.option("--rate", help="Messages a second of all devices, or max.  [default: 10]")
@click.option("--duration", help="How long to send: seconds, or 90s, 15m, 2h, 1d.")
@click.option("--count", type=int, help="How many messages to send, instead of --duration.")
@click.option(
    "--seed", type=int, help=f"Same seed, same data.  [default: {DEFAULT_SEED}, or the scenario's]"
)
@click.option("--start", help="Event time of reading one, ISO 8601 with zone.  [default: now]")
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
    if scenario is not None:
        plain = {
            "--devices": devices,
            "--rate": rate,
            "--count": count,
            "--interval": interval,
            "--preset": preset,
        }
        _refuse(plain, "the scenario's file says that")
        asked = choose_scenario(
            scenario,
            seed=seed,
            speed=speed,
            duration_seconds=None if duration is None else parse_seconds("--duration", duration),
            start=start,
            since=since,
            until=until,
        )
        send_scenario(asked, as_json)
        return
    _refuse(
        {"--speed": speed, "--since": since, "--until": until},
        "a plain fleet has --rate, and --start for a backfill; give --scenario too",
    )
    if preset == "seed":
        devices = 3 if devices is None else devices
        rate = "1" if rate is None else rate
        count = 900 if count is None and duration is None else count
    plan = plan_simulation(
        devices=10 if devices is None else devices,
        rate=parse_rate("10" if rate is None else rate),
        count=count,
        duration_seconds=None if duration is None else parse_seconds("--duration", duration),
        seed=DEFAULT_SEED if seed is None else seed,
        start=None if start is None else parse_start(start),
        interval_seconds=None if interval is None else parse_seconds("--interval", interval),
    )
    settings = Settings.from_env()
    result = SimulationResult()
    stop = Stop()
    try:
        with (
            open_sender(settings) as sender,
            progress(plan.count, plan.duration_seconds) as tell,
            stop,
        ):
            simulate(sender, plan, should_stop=stop.is_asked, on_progress=tell, result=result)
    finally:
        # Also when it failed: what was acknowledged is in the topic, whatever came after.
        if result.produced or sys.exc_info()[0] is None:
            _print_result(settings.topic, plan, result, as_json)
    if stop.signal_number is not None:
        sys.exit(128 + stop.signal_number)


def _refuse(options: Mapping[str, object], why: str) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise ConfigurationError(f"{', '.join(given)}: {why}")


def parse_seconds(option: str, text: str) -> float:
    """Seconds of a number with or without unit: 90, 90s, 15m, 2h, 1d."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([smhd]?)\s*", text)
    if match is None:
        raise ConfigurationError(f"{option} {text!r}: expected seconds, or 90s, 15m, 2h, 1d")
    return float(match[1]) * _UNITS[match[2]]


def _print_result(
    topic: str, plan: SimulationPlan, result: SimulationResult, as_json: bool
) -> None:
    start = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=result.start_us)
    if as_json:
        print_json(
            {
                "topic": topic,
                "produced": result.produced,
                "acknowledged": result.acknowledged,
                "failed": result.failed,
                "unconfirmed": result.unconfirmed,
                "seconds": round(result.seconds, 3),
                "rate": round(result.rate, 1),
                "devices": plan.devices,
                "seed": plan.seed,
                "start": start,
                "interval_seconds": float(plan.interval_us / 1_000_000),
                "stopped": result.is_stopped,
            }
        )
        return
    line = (
        f"{topic}: produced {result.produced:,}, acknowledged {result.acknowledged:,} "
        f"in {result.seconds:,.1f} s ({result.rate:,.1f}/s)"
    )
    if result.failed:
        line += f", failed {result.failed:,}"
    if result.unconfirmed:
        line += f", unconfirmed {result.unconfirmed:,} (these may or may not have arrived)"
    say(line)
