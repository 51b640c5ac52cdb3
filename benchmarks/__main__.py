"""`python -m benchmarks`: interleaved rounds on servers of its own, within a time budget.

Method: Kafka and Cassandra are started once per commit log mode, on free ports and in a folder of
their own, and warmed up by one uncounted run of every contender (the JVMs compile meanwhile). A
round runs every contender once, so what shakes the machine shakes all of them; ratios are taken
within a round. Every run has a fresh keyspace and is verified by count and by sample. Series that
no longer fit the time budget are left out and named.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import psutil

from benchmarks import report, verify
from benchmarks.contenders import Contender, contenders
from benchmarks.latency import probe
from benchmarks.load import load
from iot_pipeline.clients.cassandra import CassandraClient
from iot_pipeline.settings import Settings
from iot_pipeline_tests.servers import OwnServices, clean_environment, start_services

_IOT = str(Path(sys.executable).parent / "iot")
_FOLLOW_START_SECONDS = 3.0
_FULL_MINUTES = 24 * 60


class _Bench:
    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.ends = time.monotonic() + given.minutes * 60
        self.runs: list[report.Measurement] = []
        self.latencies: list[dict[str, float]] = []
        self.loaded: set[str] = set()

    def run(self) -> None:
        share = (self.ends - time.monotonic()) / len(self.given.commitlogs)
        for number, commitlog in enumerate(self.given.commitlogs, start=1):
            until = self.ends - share * (len(self.given.commitlogs) - number)
            with tempfile.TemporaryDirectory(prefix="iot-bench-") as folder:
                services = start_services(Path(folder) / "data", commitlog_sync=commitlog)
                self.loaded.clear()
                try:
                    self._measure(services, commitlog, until)
                finally:
                    services.stop()
            report.write(self.runs, self.latencies, self.given.out)

    def _measure(self, services: OwnServices, commitlog: str, until: float) -> None:
        every = contenders(verify.is_complete, self.given.full)
        _say(f"{commitlog}: warming up")
        for contender in every:
            self._one(services, commitlog, contender, 1_000, self.given.rows // 5, None)
        if self.given.rates:
            for rate in self.given.rates:
                self._follow(services, commitlog, rate)
        for devices in self.given.devices:
            for number in range(self.given.rounds):
                if time.monotonic() > until:
                    _say(
                        f"{commitlog}: no time for {devices} devices, round {number + 1}; left out"
                    )
                    break
                for contender in every:
                    self._one(services, commitlog, contender, devices, self.given.rows, number)

    def _one(
        self,
        services: OwnServices,
        commitlog: str,
        contender: Contender,
        devices: int,
        rows: int,
        number: int | None,
    ) -> None:
        count = max(devices, rows // contender.slowness)
        env = self._environment(services, f"bench_{devices}_{count}", devices)
        settings = _settings(env)
        subprocess.run([_IOT, "setup"], env=env, check=True, capture_output=True)
        if settings.topic not in self.loaded:
            load(settings.bootstrap_servers, settings.topic, count, devices, self.given.padding)
            self.loaded.add(settings.topic)
        before = _cpu_seconds(services)
        outcome = contender.run(env, count)
        after = _cpu_seconds(services)
        problem = verify.find_problem(settings, count, devices)
        if problem:
            raise SystemExit(f"{contender.name}, {devices} devices: {problem}")
        with CassandraClient(settings, request_timeout_seconds=60) as client:
            client.execute(f"DROP KEYSPACE {client.keyspace}", doing="dropping the keyspace")
        per_row = 1e6 / outcome.rows
        done = report.Measurement(
            commitlog,
            devices,
            contender.name,
            number or 0,
            outcome.rows,
            outcome.seconds,
            outcome.client_cpu_seconds * per_row,
            (after["kafka"] - before["kafka"]) * per_row,
            (after["cassandra"] - before["cassandra"]) * per_row,
            outcome.peak_rss_mb,
        )
        _say(
            f"{commitlog} {devices:,} devices, {contender.name}: {done.rate:,.0f} rows/s, client "
            f"{done.client_us:.1f} µs/row, {done.peak_rss_mb:.0f} MB"
            + ("" if number is not None else " (warm-up, not counted)")
        )
        if number is not None:
            self.runs.append(done)

    def _follow(self, services: OwnServices, commitlog: str, rate: int) -> None:
        env = self._environment(services, f"bench_follow_{uuid.uuid4().hex[:8]}", 1_000)
        subprocess.run([_IOT, "setup"], env=env, check=True, stdout=subprocess.DEVNULL)
        command = [_IOT, "drain", "--follow", "--json", "--seconds"]
        seconds = self.given.follow_seconds
        process = subprocess.Popen(
            [*command, str(seconds + 30)], env=env, stdout=subprocess.DEVNULL
        )
        try:
            time.sleep(_FOLLOW_START_SECONDS)
            found = probe(_settings(env), rate, seconds).summary()
        finally:
            process.terminate()
            process.wait(10)
        _say(f"{commitlog} following {rate:,}/s: {found}")
        self.latencies.append({"rate": rate, "group": float(commitlog == "group"), **found})

    def _environment(self, services: OwnServices, topic: str, devices: int) -> dict[str, str]:
        names = {"IOT_TOPIC": topic, "IOT_KEYSPACE": f"bench_{uuid.uuid4().hex[:10]}"}
        more = {"IOT_PARTITIONS": str(self.given.partitions), "BENCH_DEVICES": str(devices)}
        return {**clean_environment(), **services.env, **names, **more}


def _settings(env: dict[str, str]) -> Settings:
    return Settings.from_env({name: v for name, v in env.items() if name.startswith("IOT_")})


def _cpu_seconds(services: OwnServices) -> dict[str, float]:
    found = {}
    for name in ("kafka", "cassandra"):
        used = psutil.Process(services.pid(name)).cpu_times()
        found[name] = used.user + used.system
    return found


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def main() -> None:
    """Measure, and leave a table, JSON and a plot."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30, help="time budget")
    parser.add_argument("--rows", type=int, default=1_000_000, help="messages of the fastest")
    parser.add_argument("--devices", type=_numbers, default=[10, 100, 1_000, 10_000, 100_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--partitions", type=int, default=4, help="of the topic")
    parser.add_argument("--padding", type=int, default=0, help="bytes added to every message")
    parser.add_argument("--rates", type=_numbers, default=[1_000, 5_000], help="follow mode")
    parser.add_argument("--follow-seconds", type=float, default=60)
    parser.add_argument("--commitlogs", type=lambda t: t.split(","), default=["group", "periodic"])
    parser.add_argument("--full", action="store_true", help="peers too, however long it takes")
    parser.add_argument("--out", type=Path, default=Path("data") / "bench")
    given = parser.parse_args()
    if given.full:
        given.minutes = _FULL_MINUTES
    _say(f"load average before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    bench = _Bench(given)
    bench.run()
    print(report.table(bench.runs))
    print(f"written to {given.out}/: table.md, results.json, throughput.png")


if __name__ == "__main__":
    main()
