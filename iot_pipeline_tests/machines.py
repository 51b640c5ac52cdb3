"""Several machines for Dagster's runs, on this one: a daemon, a Postgres, a Redis, and workers.

Each worker has a home, a data folder and a host name of its own, as on other machines; a process
is started with `python -m iot_pipeline_tests.machines NAME ...`, which only then is Celery's.
"""

import os
import platform
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import psutil
import yaml

from iot_pipeline.defs.instance import (
    CONFIG_NAME,
    POSTGRES_URL,
    REDIS_URL,
    prepare_instance,
)
from iot_pipeline.defs.instance_needs import Needs
from iot_pipeline.defs.names import LANE, PROCESS, RunProcess
from iot_pipeline_tests.defs.dev_server import wait_for
from iot_pipeline_tests.postgres import Postgres, running_postgres
from iot_pipeline_tests.redis_server import Redis, running_redis
from iot_pipeline_tests.servers import clean_environment

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
READY = " ready."


@dataclass
class Machine:
    """One with a worker that executes `slots` runs at a time; its processes are one group."""

    name: str
    folder: Path
    env: Mapping[str, str]
    slots: int = 1
    began: int = 0
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def log(self) -> Path:
        return self.folder / "worker.log"

    def start(self) -> None:
        """Returns when the worker takes runs."""
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        home = prepare_instance(self.folder / "home")
        self.began = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "iot_pipeline_tests.machines", self.name),
                    *("-A", "iot_pipeline.defs.celery_app", "worker", "--loglevel", "INFO"),
                    *("--concurrency", str(self.slots), "-I", "iot_pipeline.definitions"),
                    *("--without-gossip", "--without-mingle"),
                ],
                cwd=ROOT,
                env={
                    **clean_environment(self.env),
                    "DAGSTER_HOME": str(home),
                    "IOT_DATA_DIR": str(self.folder / "data"),
                },
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_ready(self) -> None:
        def is_ready() -> bool | None:
            said = self.log.read_bytes()[self.began :].decode(errors="replace")
            assert self.process is not None
            assert self.process.poll() is None, said[-3000:]
            return READY in said or None

        wait_for(is_ready, 90, self.last_words)

    def _signal(self, number: int) -> None:
        assert self.process is not None
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def kill(self) -> int:
        """A power cut: SIGKILL of everything at once; returns how many processes there were."""
        assert self.process is not None
        number = 1 + len(psutil.Process(self.process.pid).children(recursive=True))
        self._signal(signal.SIGKILL)
        self.process.wait(30)
        return number

    def kill_worker(self) -> None:
        """SIGKILL of the worker alone, whose runs end with it."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(30)

    def stop(self) -> None:
        """As compose does: runs at work end at once."""
        assert self.process is not None
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(60)

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def wake(self) -> None:
        self._signal(signal.SIGCONT)

    def end(self) -> None:
        """Whatever is left of it, of a worker that was killed before, too."""
        if self.process is not None:
            self._signal(signal.SIGKILL)
            self.process.wait(30)

    def last_words(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]


@dataclass
class Machines:
    """All of them. The daemon's home is that which `iot check-instance` would be asked about."""

    home: Path
    env: dict[str, str]
    postgres: Postgres
    redis: Redis
    workers: dict[str, Machine] = field(default_factory=dict)
    lacked: list[str] = field(default_factory=list)
    daemon: "subprocess.Popen[bytes] | None" = None

    @property
    def log(self) -> Path:
        return self.home.parent / "daemon.log"

    def mend(self, lanes: int) -> list[str]:
        """Merge into the daemon's dagster.yaml what `iot check-instance` prints; what it says."""
        config = self.home / CONFIG_NAME
        with dg.DagsterInstance.from_config(str(self.home)) as instance:

            def all_answer() -> Needs | None:
                needs = Needs.of(instance, lanes)
                return needs if len(needs.workers or []) == len(self.workers) else None

            needs = wait_for(all_answer, 30)
            lacks = needs.find_lacks()
            lines = yaml.safe_load(needs.lines_for(lacks)) or {}
        config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | lines))
        return [f"{lack.key}: {lack.consequence}" for lack in lacks]

    def start_daemon(self) -> None:
        """With the code location, in which the sensor looks."""
        with self.log.open("ab") as log:
            self.daemon = subprocess.Popen(
                [str(BIN / "dagster-daemon"), "run", "-w", "workspace.yaml"],
                cwd=ROOT,
                env={**clean_environment(self.env), "DAGSTER_HOME": str(self.home)},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill_daemon(self) -> int:
        """It, and the code location that it started; returns how many processes there were."""
        assert self.daemon is not None
        number = 1 + len(psutil.Process(self.daemon.pid).children(recursive=True))
        self.end_daemon()
        return number

    def end_daemon(self) -> None:
        if self.daemon is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.daemon.pid, signal.SIGKILL)
            self.daemon.wait(30)

    def monitor_every(self, seconds: int) -> None:
        """How often the daemon asks the launcher about each run, from its next start on."""
        config = self.home / CONFIG_NAME
        there = yaml.safe_load(config.read_text())
        there["run_monitoring"]["poll_interval_seconds"] = seconds
        config.write_text(yaml.safe_dump(there))

    def turn_sensor_on(self) -> "subprocess.Popen[str]":
        """Loads the code, which takes seconds; to be waited for."""
        return subprocess.Popen(
            [str(BIN / "dagster"), "sensor", "start", "iot_data_lag", "-w", "workspace.yaml"],
            cwd=ROOT,
            env={**clean_environment(self.env), "DAGSTER_HOME": str(self.home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def runs(self, *statuses: dg.DagsterRunStatus) -> list[dg.DagsterRun]:
        """Of ingestion, newest first; asked by a connection that nothing has happened to."""
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            filters = dg.RunsFilter(job_name="ingest", statuses=list(statuses) or None)
            return list(instance.get_runs(filters, limit=100))

    def _told(self, run_id: str) -> list[tuple[float, dg.AssetObservation]]:
        """What a run that stays has said after its first report, and when."""
        kind = {dg.DagsterEventType.ASSET_OBSERVATION}
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            return [
                (entry.timestamp, entry.asset_observation)
                for entry in instance.all_logs(run_id, of_type=kind)
                if entry.asset_observation is not None
            ]

    def has_told_since(self, run_id: str, at: float) -> bool | None:
        """Whether a run that stays has made a report since then; None: not yet."""
        return any(told_at > at for told_at, _ in self._told(run_id)) or None

    def why_ended(self, run_id: str) -> str:
        """`fenced` where the run says that another had taken its partitions, or its failure."""
        told = [seen.metadata.get("fenced") for _, seen in self._told(run_id)]
        if any(found is not None and found.value for found in told):
            return "fenced"
        kind = {dg.DagsterEventType.STEP_FAILURE}
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            failed = [entry.user_message for entry in instance.all_logs(run_id, of_type=kind)]
        return failed[-1][:200] if failed else "without a word"

    def run(self, run_id: str) -> dg.DagsterRun:
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            found = instance.get_run_by_id(run_id)
            assert found is not None
            return found

    def terminate(self, run_id: str) -> None:
        """What the button does."""
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            run = instance.get_run_by_id(run_id)
            assert run is not None
            instance.report_run_canceling(run)
            assert instance.run_launcher.terminate(run_id)

    def at_work(self) -> dict[int, tuple[dg.DagsterRun, RunProcess]]:
        """The run of each lane that has said which process it is, by the lane's place."""
        found = {}
        for run in self.runs(dg.DagsterRunStatus.STARTED):
            process = RunProcess.parse(run.tags.get(PROCESS, ""))
            if process is not None and process.run_id == run.run_id:
                found[_place(run)] = run, process
        return found

    def end(self) -> None:
        for machine in self.workers.values():
            machine.end()
        self.end_daemon()


def _place(run: dg.DagsterRun) -> int:
    return int(run.tags[LANE].rpartition("/")[2].partition("-")[0])


@contextmanager
def running_machines(
    folder: Path, env: Mapping[str, str], names: tuple[str, ...], lanes: int, monitor_seconds: int
) -> Iterator[Machines]:
    """A Postgres, a Redis, a daemon whose sensor is on, and a worker on each machine.

    The daemon asks after each run every `monitor_seconds`.
    """
    before = {name: os.environ.get(name) for name in (POSTGRES_URL, REDIS_URL)}
    with running_postgres() as postgres, running_redis(folder / "redis") as redis:
        mine = {POSTGRES_URL: postgres.new_database(), REDIS_URL: redis.url}
        # The test itself opens the instance, too.
        os.environ.update(mine)
        machines = Machines(folder / "home", {**env, **mine}, postgres, redis)
        try:
            prepare_instance(machines.home, lanes)
            machines.monitor_every(monitor_seconds)
            sensor = machines.turn_sensor_on()
            for name in names:
                place = folder / name
                place.mkdir(parents=True)
                machines.workers[name] = Machine(name, place, machines.env)
                machines.workers[name].launch()
            for machine in machines.workers.values():
                machine.wait_ready()
            machines.lacked = machines.mend(lanes)
            said, _ = sensor.communicate(timeout=300)
            assert sensor.returncode == 0, said
            machines.start_daemon()
            yield machines
        finally:
            machines.end()
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


def _be_called(name: str) -> None:
    """What this process says of its machine, for a test cannot give the system another name."""
    platform.node = lambda: name
    socket.gethostname = lambda: name


if __name__ == "__main__":
    _be_called(sys.argv.pop(1))
    from celery.__main__ import main

    sys.argv[0] = "celery"
    main()
