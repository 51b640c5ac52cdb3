"""`iot demo`: everything at once, until Ctrl-C; `iot demo --once`: the same path, judged.

Stops what it started and nothing else: servers that ran before go on.
"""

import contextlib
import http.client
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType, TracebackType

import click
import filelock
import psutil

from iot_pipeline.cli.demo_news import OVER
from iot_pipeline.cli.demo_watch import ASSET, DagsterEndedError, Watch, iot_command, tell
from iot_pipeline.cli.services import local_services
from iot_pipeline.connections import open_connections
from iot_pipeline.core.simulator.scenarios import make_devices
from iot_pipeline.errors import ConfigurationError, ServiceError
from iot_pipeline.files import Kept
from iot_pipeline.local import processes
from iot_pipeline.local.dagster_ui import DagsterUi, find_free_port
from iot_pipeline.local.nodes import COUNTS
from iot_pipeline.local.processes import Child
from iot_pipeline.local.scenario_files import fault_kinds, load_scenario
from iot_pipeline.local.servers import LocalServices
from iot_pipeline.settings import Settings

LOCATION = "iot_pipeline"
SENSOR = "iot_data_lag"
ROLLUP_SENSOR = "rollups_of_touched_days"
ALERT_SENSOR = "iot_alerts"
SCHEDULE = "checks_every_5_minutes"
ONCE_SECONDS = 240.0
# A demo ends with Ctrl-C; a fleet that was left running ends by itself.
DEMO_DURATION = "7d"

_WORKSPACE = f"""load_from:
  - python_module:
      module_name: iot_pipeline.definitions
      location_name: {LOCATION}
"""
_TOUR = """
  The UI: {address}

    Runs                     one run stays for five minutes, then the next
    Catalog > sensor_data    Checks: {expect}
                             Events: what each report wrote, and pictures
    Catalog > dead_letters   what was refused, and why
    Lineage                  the path of the data, and rollups by hour and day
    Jobs > simulate          Launchpad: another fleet, as large as you like
    Automation               the sensor {sensor} and the schedules

  In another terminal:  {iot} lag
                        {iot} readings {device} --last 5m
  Break something:      {iot} kill {victim}
                        {iot} up

  Ctrl-C stops what this demo started; a second one kills it.
  What changes is told here, one line each; times are UTC.
"""


@dataclass(frozen=True, slots=True)
class _Fleet:
    """Which fleet a demo shows: options of `iot simulate`, and what to say of it."""

    options: tuple[str, ...]
    words: str
    expect: str
    device_id: str


@click.command("demo")
@click.option("--devices", type=click.IntRange(1, 100_000), help="How many devices.  [default: 50]")
@click.option(
    "--scenario", metavar="NAME|FILE", help="A fleet with faults, such as rough_day, instead."
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=3000,
    show_default=True,
    help="Of Dagster's UI; another one is taken when it is in use.",
)
@click.option(
    "--once", is_flag=True, help="End when one run and its checks have passed, or failed."
)
@click.option("--secure", is_flag=True, help="Behind TLS, users and passwords; made on the spot.")
@click.option("--nodes", type=click.Choice(list(map(str, COUNTS))), help="Of each server.")
def demo_command(
    devices: int | None,
    scenario: str | None,
    port: int,
    once: bool,
    secure: bool,
    nodes: str | None,
) -> None:
    """Run services, schema, a fleet and Dagster's UI with the sensor on, until Ctrl-C."""
    settings = Settings.from_env()
    # A wrong scenario is refused now, not when everything else is up.
    fleet = _choose_fleet(50 if devices is None else devices, scenario)
    if scenario is not None and devices is not None:
        raise ConfigurationError("--devices: the scenario's file says that")
    if scenario is not None and once:
        raise ConfigurationError("--once judges a fleet that is well: leave --scenario out")
    folder = settings.data_dir / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    with _only_one(folder), _stop_on_signals(), ExitStack() as stack:
        try:
            _end_leftovers(folder)
            count = None if nodes is None else int(nodes)
            start = partial(LocalServices.up, secure=secure, nodes=count)
            _run(settings, folder, stack, fleet, port, once, start)
        except KeyboardInterrupt:
            tell("stopping (a second Ctrl-C kills)")
            if once:
                raise


def _run(
    settings: Settings,
    folder: Path,
    stack: ExitStack,
    chosen: _Fleet,
    port: int,
    once: bool,
    start: Callable[[LocalServices], object],
) -> None:
    began = time.monotonic()

    def step(text: str) -> None:
        tell(f"[{time.monotonic() - began:3.0f} s] {text}")

    step("1/5 Kafka and Cassandra")
    services = _start_services(stack, folder, start)
    lines = services.description.environment()
    of_here = set_here(os.environ)
    if lines:
        # Addresses, names of files and of a user; the children that are started below read them
        # too.
        os.environ.update(lines)
        settings = Settings.from_env()
    step("2/5 topics and tables")
    with open_connections(settings) as connections:
        connections.set_up()
    step("3/5 Dagster")
    # A run that stays: rows are there in a fraction of a second, and checks are never "in progress"
    # for long. With --once the run has to end, so that it can be judged.
    mode = "drain" if once else os.environ.get("IOT_INGEST_MODE", "follow")
    ui, dagster = _start_dagster(settings, folder, stack, port, mode)
    step(f"4/5 {chosen.words}")
    start_fleet = partial(_start_fleet, folder, stack, chosen)
    fleet = start_fleet()
    # Runs that were over before this demo are neither shown nor judged.
    runs, _ = ui.look(SENSOR, ASSET, limit=100)
    earlier = {run["runId"] for run in runs if once or run["status"] in OVER}
    watch = Watch(settings, ui, dagster, fleet, services, SENSOR, earlier, start_fleet)
    step(f"5/5 sensors {SENSOR} and {ROLLUP_SENSOR} and schedule {SCHEDULE} on")
    ui.start("Sensor", SENSOR)
    ui.start("Sensor", ROLLUP_SENSOR)
    if settings.alert_urls:
        ui.start("Sensor", ALERT_SENSOR)
        tell(f"  {ALERT_SENSOR} is on: {', '.join(settings.alert_urls)} will be told what changes")
    ui.start("Schedule", SCHEDULE)
    if once:
        step(watch.until_judged(ONCE_SECONDS))
        return
    tell(
        _TOUR.format(
            address=ui.address,
            sensor=SENSOR,
            expect=chosen.expect,
            device=shlex.quote(chosen.device_id),
            iot=iot_command(),
            victim=services.description.servers(("cassandra",))[-1].name,
        )
    )
    if of_here:
        tell(f"  In other terminals set what is set here: {', '.join(of_here)}.")
    if lines:
        why = "The doors are locked" if services.secure.is_there else "There are several nodes"
        tell(f"  {why}: in other terminals set what `{iot_command()} up` prints.")
    watch.until_it_ends()


# Services, Dagster, the fleet: each is stopped by the stack, in the opposite order.


def _start_services(
    stack: ExitStack, folder: Path, start: Callable[[LocalServices], object]
) -> LocalServices:
    services = local_services()
    mark = Kept(folder / "services.json", set[str])
    # A demo that was killed left its servers running: they are still ours to stop.
    ours = mark.read() or set()
    ours |= {status.name for status in services.status() if status.state == "stopped"}
    mark.write(ours)

    def stop(
        kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        if kind is not None and issubclass(kind, DagsterEndedError):
            return  # the next demo finds the mark and takes them over
        if ours:
            tell(f"stopping {' and '.join(sorted(ours))}; their data stays")
            # Not those of `up`, which may write to a terminal that is gone.
            LocalServices(Settings.from_env(), tell).down(ours)
        mark.path.unlink(missing_ok=True)

    stack.push(stop)
    start(services)
    return services


def _start_dagster(
    settings: Settings, folder: Path, stack: ExitStack, port: int, mode: str
) -> tuple[DagsterUi, Child]:
    home = settings.data_dir / "dagster"
    env = {
        **os.environ,
        "DAGSTER_HOME": str(home),
        "IOT_DATA_DIR": str(settings.data_dir),
        "IOT_INGEST_MODE": mode,
    }
    prepared = subprocess.run(
        [sys.executable, "-m", "iot_pipeline.defs.instance", str(home)],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if prepared.returncode:
        raise ServiceError(f"preparing {home}: {prepared.stdout[-1000:]}{prepared.stderr[-2000:]}")
    free = find_free_port(port)
    if free != port:
        tell(f"port {port} is taken; the UI is at {free}")
    # Written here rather than read from the checkout: an installed wheel has no workspace.yaml.
    workspace = folder / "workspace.yaml"
    workspace.write_text(_WORKSPACE)
    command = [_script("dagster"), "dev", "-w", str(workspace), "-h", "127.0.0.1", "-p", str(free)]
    child = Child(command, folder / "dagster.log", env)
    stack.callback(_stop_child, "Dagster", child)
    ui = DagsterUi(free, LOCATION)
    ui.wait(child)
    stack.callback(_end_runs, ui, child)
    (folder / "ui.txt").write_text(ui.address)
    return ui, child


def set_here(environ: Mapping[str, str]) -> list[str]:
    """Names of settings that the demo has from its terminal; `iot` in another one lacks them."""
    return sorted(name for name in environ if name.startswith("IOT_") and name != "IOT_INGEST_MODE")


def _choose_fleet(devices: int, scenario: str | None) -> _Fleet:
    if scenario is None:
        return _Fleet(
            ("--devices", str(devices), "--rate", str(devices)),
            f"a fleet of {devices} devices, one reading a second each",
            "everything should be green",
            "device_1",
        )
    name, shape = load_scenario(scenario)
    options: tuple[str, ...] = ("--scenario", scenario)
    if shape.speed != "max":
        options += ("--duration", DEMO_DURATION)
    kinds = fault_kinds(shape)
    manifests = Settings.from_env().data_dir / "manifests"
    return _Fleet(
        options,
        f"scenario {name}: {shape.device_count} devices, faults: {', '.join(kinds) or 'none'}; "
        f"what they really send is written to {manifests}",
        "some turn red within minutes" if kinds else "everything should be green",
        make_devices(shape)[0].device_id,
    )


def _start_fleet(folder: Path, stack: ExitStack, fleet: _Fleet) -> Child:
    command = [_script("iot"), "simulate", *fleet.options]
    child = Child(command, folder / "fleet.log", os.environ)
    stack.callback(_stop_child, "the fleet", child)
    return child


def _end_runs(ui: DagsterUi, dagster: Child) -> None:
    if not dagster.is_alive:
        return  # the next start finds its runs gone, and says so
    tell("ending Dagster's runs")
    with contextlib.suppress(OSError, http.client.HTTPException, ServiceError):
        ui.end_runs()


def _stop_child(name: str, child: Child) -> None:
    if child.is_alive:
        tell(f"stopping {name}")
    if not child.stop():
        tell(f"{name} did not stop in time and was killed")


def _script(name: str) -> str:
    """The command of this environment, whatever PATH says."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise ServiceError(f"`{name}` is not installed beside {sys.executable}; run `make setup`")
    return found


# One demo at a time, and signals.


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    lock = filelock.FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        where = folder / "ui.txt"
        at = f"; its UI is at {where.read_text()}" if where.exists() else ""
        raise ServiceError(f"a demo runs already{at}. Stop it with Ctrl-C first") from None
    try:
        yield
    finally:
        (folder / "ui.txt").unlink(missing_ok=True)
        lock.release()


@contextmanager
def _stop_on_signals() -> Iterator[None]:
    """SIGTERM and a closed terminal (SIGHUP) end the demo as Ctrl-C does; the second one kills."""
    count = 0

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal count
        count += 1
        if count > 1:
            for child in psutil.Process().children(recursive=True):
                child.kill()
            os._exit(130)
        raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, interrupt) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _end_leftovers(folder: Path) -> None:
    """End what a demo that was killed left running."""
    for name in ("fleet", "dagster"):
        record = folder / f"{name}.json"
        process = processes.recorded(record)
        record.unlink(missing_ok=True)
        if process is not None:
            tell(f"ending {name} (pid {process.pid}) of a demo that was killed")
            processes.interrupt([*process.children(recursive=True), process], 15)
