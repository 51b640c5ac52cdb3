"""One benchmark: servers of its own per commit log mode, interleaved rounds, verified runs."""

import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path

import psutil

from benchmarks import report, verify
from benchmarks.contenders import (
    PACKED,
    ROOT,
    Contender,
    Outcome,
    contenders,
    drain_in_processes,
    profile_drain,
    run_iot,
)
from benchmarks.formats import PLAIN, declared, registry
from benchmarks.latency import probe
from benchmarks.load import load
from benchmarks.marks import rate_between
from iot_pipeline.clients.cassandra import CassandraClient
from iot_pipeline.settings import Settings
from iot_pipeline_tests.servers import OwnServices, clean_environment, start_services

_IOT = str(Path(sys.executable).parent / "iot")
_FOLLOW_START_SECONDS = 3.0
# Of the time, for all commit logs but the first.
_OTHERS_SHARE = 0.35
# After one minute the JIT still compiles: p99 604 ms in the 40 s after it, 210 in the next 40.
_WARM_UP_RATE, _WARM_UP_SECONDS = 5_000, 150.0
# The series whose ratios the issue asks for come first, the cheap ones fill what time is left.
_DEVICES_OF_SERIES = 1_000
# Lanes are for large fleets; of a small one each lane would have a handful of devices.
_DEVICES_OF_LANES = 10_000
# The first and the last million, without the start and the end.
_MILLION, _EDGE = 1_000_000, 200_000


@dataclass(frozen=True)
class Wanted:
    """What is measured; the meaning of each is that of the argument with its name."""

    minutes: float
    rows: int
    devices: list[int]
    rounds: int
    partitions: int
    rates: list[int]
    follow_seconds: float
    follow_devices: int
    commitlogs: list[str]
    formats: list[str]
    lanes: list[int]
    contenders: list[str]
    nodes: int
    before: Path | None
    full: bool
    out: Path


@dataclass(frozen=True)
class Load:
    """One topic: so many readings of so many devices."""

    rows: int
    devices: int
    partitions: int
    padding: int = 0
    form: str = PLAIN

    @property
    def topic(self) -> str:
        return f"bench_{self.devices}_{self.rows}_{self.partitions}_{self.padding}_{self.form}"


@dataclass
class Bench:
    """Measures what is wanted, and keeps what it found; `run` does all of it."""

    wanted: Wanted
    found: report.Found = field(default_factory=report.Found)

    def run(self) -> None:
        ends = time.monotonic() + self.wanted.minutes * 60
        others = len(self.wanted.commitlogs) - 1
        # The first has the series that the others have not.
        share = self.wanted.minutes * 60 * _OTHERS_SHARE / max(1, others)
        for number, commitlog in enumerate(self.wanted.commitlogs):
            until = ends - share * (others - number)
            with tempfile.TemporaryDirectory(prefix="iot-bench-") as folder:
                say(f"{commitlog}: starting servers")
                services = start_services(
                    Path(folder) / "data", commitlog_sync=commitlog, nodes=self.wanted.nodes
                )
                try:
                    servers = _Servers(self, services, commitlog, until)
                    servers.measure(number == 0)
                    warned = servers.batch_warnings()
                finally:
                    services.stop()
            report.write(self.found, self.wanted.out)
            if warned:
                raise SystemExit(f"Cassandra warned of {len(warned)} batches: {warned[0]}")


class _Servers:
    def __init__(self, bench: Bench, services: OwnServices, commitlog: str, until: float) -> None:
        self._wanted, self._found = bench.wanted, bench.found
        self._services, self._commitlog, self._until = services, commitlog, until
        self._loaded: set[str] = set()
        self._names: dict[str, str] = {}
        # What Cassandra said of batches of peers.
        self._foreign: set[str] = set()
        self._contenders = contenders(
            bench.wanted.contenders, bench.wanted.before, with_peers=bench.wanted.full
        )

    def measure(self, is_first: bool) -> None:
        wanted = self._wanted
        say(f"{self._commitlog}: warming up")
        for contender in self._contenders:
            self._round(contender, _DEVICES_OF_SERIES, wanted.rows, None)
        for devices in wanted.devices:
            for number in range(wanted.rounds):
                if self._has_time(f"{devices} devices, round {number + 1}"):
                    # In turn the other way round: who comes second meets a warmer server.
                    for contender in self._contenders[:: -1 if number % 2 else 1]:
                        self._round(contender, devices, wanted.rows, number)
            if is_first and devices == wanted.devices[0] and not wanted.contenders:
                # Now that the servers are as warm as they get.
                self._follow_all()
                self._other_series()
        if is_first and wanted.formats:
            with ExitStack() as stack:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                where = stack.enter_context(registry(folder))
                self._compare_formats(folder, where)
        if is_first and wanted.lanes:
            self._compare_lanes()

    def batch_warnings(self) -> list[str]:
        """What Cassandra's log says against batches of ours."""
        return [one for one in self._services.batch_warnings(0) if one not in self._foreign]

    def _follow_all(self) -> None:
        if self._wanted.rates:
            # Small requests are other paths through both servers than a backlog's.
            self._follow(_WARM_UP_RATE, _WARM_UP_SECONDS, is_counted=False)
        for rate in self._wanted.rates:
            if self._has_time(f"following {rate:,}/s"):
                self._follow(rate, self._wanted.follow_seconds)

    def _other_series(self) -> None:
        """What one run each says, of the packed drain alone."""
        rows, devices, partitions = self._wanted.rows, _DEVICES_OF_SERIES, self._wanted.partitions
        packed = PACKED.run
        for count in (1, 16):
            load_of = Load(rows, devices, count)
            self._series(f"{count} partitions", load_of, lambda env: packed(env, rows))
        for padding in (400, 2_000):
            load_of = Load(rows // 2, devices, partitions, padding)
            name = f"{padding} bytes more a message"
            self._series(name, load_of, lambda env: packed(env, rows // 2))
        half = partitions // 2
        groups = [range(half), range(half, partitions)]
        self._series(
            "two processes",
            Load(rows, devices, partitions),
            lambda env: drain_in_processes(env, groups),
        )
        backlog = Load(5 * rows, devices, partitions)
        self._series("backlog of five times as much", backlog, lambda env: packed(env, 5 * rows))
        if self._has_time("the profile"):
            env = self._environment(Load(rows, devices, partitions))
            self._prepare(env, Load(rows, devices, partitions))
            self._found.profile = profile_drain(env)
            _drop(_settings(env))

    def _compare_formats(self, folder: Path, where: dict[str, str]) -> None:
        """The packed drain on the same readings in each format, in turn."""
        rows, packed = self._wanted.rows, PACKED.run
        for number in range(self._wanted.rounds):
            if not self._has_time(f"formats, round {number + 1}"):
                return
            for form in self._wanted.formats:
                what = Load(rows, _DEVICES_OF_SERIES, self._wanted.partitions, form=form)
                self._names = {**where, **declared(form, folder)}
                self._one(form, "packed", what, lambda env: packed(env, rows), number)
        self._names = {}

    def _compare_lanes(self) -> None:
        """One topic by so many processes at once, in turn; then following it, at each rate."""
        wanted = self._wanted
        what = Load(wanted.rows, _DEVICES_OF_LANES, wanted.partitions)
        for number in range(wanted.rounds):
            for lanes in wanted.lanes[:: -1 if number % 2 else 1]:
                if self._has_time(f"{lanes} lanes, round {number + 1}"):
                    groups = [range(place, what.partitions, lanes) for place in range(lanes)]
                    run = partial(drain_in_processes, groups=groups)
                    self._one(report.LANES.format(lanes), "packed", what, run, number)
        if wanted.rates:
            self._follow(_WARM_UP_RATE, _WARM_UP_SECONDS, is_counted=False)
        for rate, lanes in product(wanted.rates, wanted.lanes):
            if self._has_time(f"following {rate:,}/s with {lanes} lanes"):
                self._follow(rate, wanted.follow_seconds, lanes)

    def _series(self, name: str, what: Load, run: Callable[[dict[str, str]], Outcome]) -> None:
        if self._has_time(name):
            self._one(name, "packed", what, run, 0)

    def _has_time(self, what: str) -> bool:
        if time.monotonic() < self._until:
            return True
        say(f"{self._commitlog}: no time for {what}; left out")
        self._found.left_out.append(f"{self._commitlog}: {what}")
        return False

    def _round(self, contender: Contender, devices: int, rows: int, number: int | None) -> None:
        count = max(devices, rows // contender.slowness)
        what = Load(count, devices, self._wanted.partitions)
        name, checkout = contender.name, contender.checkout
        self._one("devices", name, what, lambda env: contender.run(env, count), number, checkout)

    def _one(
        self,
        series: str,
        name: str,
        what: Load,
        run: Callable[[dict[str, str]], Outcome],
        number: int | None,
        checkout: Path = ROOT,
    ) -> None:
        env = self._environment(what)
        settings = self._prepare(env, what, checkout)
        warned = self.batch_warnings()
        before = _cpu_seconds(self._services)
        outcome = run(env)
        after = _cpu_seconds(self._services)
        if any(one.name == name and one.is_peer for one in self._contenders):
            self._foreign |= set(self.batch_warnings()) - set(warned)
        problem = verify.find_problem(settings, what.rows, what.devices)
        if problem:
            raise SystemExit(f"{name}, {what.devices} devices: {problem}")
        _drop(settings)
        per_row = 1e6 / outcome.rows
        marks = outcome.marks
        is_long = bool(marks) and outcome.rows >= 2 * (_MILLION + _EDGE)
        done = report.Measurement(
            series=series,
            commitlog=self._commitlog,
            devices=what.devices,
            partitions=what.partitions,
            contender=name,
            round=number or 0,
            rows=outcome.rows,
            seconds=outcome.seconds,
            rate=outcome.rows / outcome.seconds,
            client_us=outcome.client_cpu_seconds * per_row,
            kafka_us=(after["kafka"] - before["kafka"]) * per_row,
            cassandra_us=(after["cassandra"] - before["cassandra"]) * per_row,
            peak_rss_mb=outcome.peak_rss_mb,
            first_rate=rate_between(marks, _EDGE, _EDGE + _MILLION) if is_long else 0.0,
            last_rate=rate_between(marks, outcome.rows - _EDGE - _MILLION, outcome.rows - _EDGE)
            if is_long
            else 0.0,
        )
        say(
            f"{self._commitlog} {what.devices:,} devices, {series}, {name}: {done.rate:,.0f} "
            f"rows/s, client {done.client_us:.1f}, Cassandra {done.cassandra_us:.1f} µs/row, "
            f"{done.peak_rss_mb:.0f} MB" + ("" if number is not None else " (warm-up, not counted)")
        )
        if number is not None:
            self._found.runs.append(done)

    def _follow(
        self, rate: int, seconds: float, lanes: int = 1, *, is_counted: bool = True
    ) -> None:
        what = Load(0, _DEVICES_OF_SERIES, self._wanted.partitions)
        env = self._environment(what, topic=f"bench_follow_{uuid.uuid4().hex[:8]}")
        run_iot(env, "setup")
        command = [_IOT, "drain", "--follow", "--json", "--seconds", str(seconds + 60)]
        processes = []
        try:
            for place in range(lanes):
                mine = ",".join(map(str, range(place, what.partitions, lanes)))
                processes.append(
                    psutil.Popen(
                        [*command, "--partitions", mine], env=env, stdout=subprocess.DEVNULL
                    )
                )
            time.sleep(_FOLLOW_START_SECONDS * lanes)
            before = _cpu_seconds(self._services, processes)
            found = probe(_settings(env), rate, seconds, self._wanted.follow_devices)
            after = _cpu_seconds(self._services, processes)
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(30)
        _drop(_settings(env))
        summary = found.summary()
        for kind, used in after.items():
            summary[f"{kind}_us"] = round((used - before[kind]) / found.sent * 1e6, 1)
        note = "" if is_counted else " (warm-up, not counted)"
        say(f"{self._commitlog} following {rate:,}/s, lanes: {lanes}: {summary}{note}")
        if not is_counted:
            return
        devices = self._wanted.follow_devices
        self._found.latencies.append(
            {
                "commitlog": self._commitlog,
                "devices": devices,
                "rate": rate,
                "lanes": lanes,
                **summary,
            }
        )

    def _prepare(self, env: dict[str, str], what: Load, checkout: Path = ROOT) -> Settings:
        settings = _settings(env)
        run_iot(env, "setup", checkout=checkout)
        if what.topic not in self._loaded:
            load(settings, what.rows, what.devices, what.padding)
            self._loaded.add(what.topic)
        return settings

    def _environment(self, what: Load, topic: str = "") -> dict[str, str]:
        names = {
            "IOT_TOPIC": topic or what.topic,
            "IOT_KEYSPACE": f"bench_{uuid.uuid4().hex[:10]}",
            "IOT_PARTITIONS": str(what.partitions),
            "BENCH_DEVICES": str(what.devices),
            **self._names,
        }
        return {**clean_environment(), **self._services.env, **names}


def say(text: str) -> None:
    """Tell how far it is, on stderr."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def _settings(env: dict[str, str]) -> Settings:
    return Settings.from_env({name: v for name, v in env.items() if name.startswith("IOT_")})


def _drop(settings: Settings) -> None:
    with CassandraClient(settings, request_timeout_seconds=60) as client:
        client.execute(f"DROP KEYSPACE {client.keyspace}", doing="dropping the keyspace")


def _cpu_seconds(services: OwnServices, clients: Iterable[psutil.Process] = ()) -> dict[str, float]:
    """Of all nodes of a kind together, and of these processes."""
    found = {"client": 0.0, "kafka": 0.0, "cassandra": 0.0}
    for client in clients:
        used = client.cpu_times()
        found["client"] += used.user + used.system
    for server in services.local.description.servers():
        used = psutil.Process(services.pid(server.name)).cpu_times()
        found[server.service.kind] += used.user + used.system
    return found
