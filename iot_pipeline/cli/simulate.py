"""`iot simulate`: send a fleet's readings to the topic, and say what was acknowledged."""

import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import FrameType, TracebackType
from typing import Self

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from iot_pipeline.cli.output import json_option, print_json
from iot_pipeline.clients.kafka_producer import open_sender
from iot_pipeline.core.simulation import (
    DEFAULT_SEED,
    SimulationPlan,
    parse_rate,
    parse_start,
    plan_simulation,
)
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.settings import Settings
from iot_pipeline.stages.simulation import SimulationResult, simulate

LOG_EVERY_SECONDS = 5.0
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}


@click.command("simulate")
@click.option("--devices", type=int, help="How many devices send, in turn.  [default: 10]")
@click.option("--rate", help="Messages a second of all devices, or max.  [default: 10]")
@click.option("--duration", help="How long to send: seconds, or 90s, 15m, 2h, 1d.")
@click.option("--count", type=int, help="How many messages to send, instead of --duration.")
@click.option("--seed", type=int, default=DEFAULT_SEED, show_default=True, help="Same, same data.")
@click.option("--start", help="Event time of reading one, ISO 8601 with zone.  [default: now]")
@click.option(
    "--interval", help="With --start: event time between two readings of a device, as --duration."
)
@click.option(
    "--preset",
    type=click.Choice(["seed"]),
    help="seed: the original script, 3 devices, a message a second, 900 of them.",
)
@json_option
def simulate_command(
    devices: int | None,
    rate: str | None,
    duration: str | None,
    count: int | None,
    seed: int,
    start: str | None,
    interval: str | None,
    preset: str | None,
    as_json: bool,
) -> None:
    """Send a simulated fleet's readings to the topic, until done or Ctrl-C.

    \b
    iot simulate --devices 50 --rate 500                  live, until Ctrl-C
    iot simulate --devices 200 --rate max --count 200000  as fast as can be
    iot simulate --rate max --count 864000 --start 2026-01-01T00:00:00Z    backfill of a day, 1 Hz
    iot simulate --preset seed                            the original script's run

    No two readings of a device share a millisecond and live ones are never of the future, so a
    live fleet at --rate max starts a little in the past.

    Ends with what was produced and what Kafka acknowledged; after Ctrl-C with exit code 130,
    after SIGTERM with 143.
    """  # noqa: D301  (\b is click's mark for lines that stay as they are)
    if preset == "seed":
        devices = 3 if devices is None else devices
        rate = "1" if rate is None else rate
        count = 900 if count is None and duration is None else count
    plan = plan_simulation(
        devices=10 if devices is None else devices,
        rate=parse_rate("10" if rate is None else rate),
        count=count,
        duration_seconds=None if duration is None else parse_seconds("--duration", duration),
        seed=seed,
        start=None if start is None else parse_start(start),
        interval_seconds=None if interval is None else parse_seconds("--interval", interval),
    )
    settings = Settings.from_env()
    result = SimulationResult()
    stop = _Stop()
    try:
        with (
            open_sender(settings.bootstrap_servers, settings.topic) as sender,
            _progress(plan) as tell,
            stop,
        ):
            simulate(sender, plan, should_stop=stop.is_asked, on_progress=tell, result=result)
    finally:
        # Also when it failed: what was acknowledged is in the topic, whatever came after.
        if result.produced or sys.exc_info()[0] is None:
            _print_result(settings.topic, plan, result, as_json)
    if stop.signal_number is not None:
        sys.exit(128 + stop.signal_number)


def parse_seconds(option: str, text: str) -> float:
    """Seconds of a number with or without unit: 90, 90s, 15m, 2h, 1d."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([smhd]?)\s*", text)
    if match is None:
        raise ConfigurationError(f"{option} {text!r}: expected seconds, or 90s, 15m, 2h, 1d")
    return float(match[1]) * _UNITS[match[2]]


class _Stop:
    """Turns Ctrl-C and SIGTERM into a flag while entered; a second Ctrl-C interrupts at once."""

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._before: dict[int, object] = {}

    def is_asked(self) -> bool:
        return self.signal_number is not None

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal() gave us

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.signal_number is not None:
            raise KeyboardInterrupt
        self.signal_number = number


@contextmanager
def _progress(plan: SimulationPlan) -> Iterator[Callable[[SimulationResult], None]]:
    """A bar on a terminal, else a line every few seconds; both on stderr."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _LogLines(plan).tell
        return
    with Progress(
        TextColumn("simulating"),
        BarColumn(),
        TextColumn("{task.fields[text]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task("", total=plan.count or plan.duration_seconds, text="")

        def tell(result: SimulationResult) -> None:
            done = result.produced if plan.duration_seconds is None else result.seconds
            bar.update(task, completed=done, text=_counts(result))

        yield tell


class _LogLines:
    def __init__(self, plan: SimulationPlan) -> None:
        self._of = "" if plan.count is None else f" of {plan.count:,}"
        self._told_at = time.monotonic()

    def tell(self, result: SimulationResult) -> None:
        if time.monotonic() - self._told_at >= LOG_EVERY_SECONDS:
            self._told_at = time.monotonic()
            click.echo(f"simulating{self._of}: {_counts(result)}", err=True)


def _counts(result: SimulationResult) -> str:
    return (
        f"{result.produced:,} produced, {result.acknowledged:,} acknowledged, {result.rate:,.0f}/s"
    )


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
                "start": start.isoformat(),
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
    click.echo(line)


SIMULATION_COMMANDS = (simulate_command,)
