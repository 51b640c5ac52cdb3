"""A pipeline of a test's own on servers that may be killed: load, drains, and the oracle's word."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from iot_pipeline.cli.main import EXIT_TRANSIENT
from iot_pipeline.connections import open_connections
from iot_pipeline.settings import Settings
from iot_pipeline.stages.requests import retry_transient
from iot_pipeline_tests.chaos.load import Load
from iot_pipeline_tests.chaos.log_files import Segment
from iot_pipeline_tests.chaos.oracle import Facts, Found, Stretch, Verdict, judge
from iot_pipeline_tests.chaos.reading import (
    Checkpoints,
    collect,
    plain_session,
    read_ends,
    read_epochs,
    read_records,
)
from iot_pipeline_tests.load import send_bomb
from iot_pipeline_tests.patience import until
from iot_pipeline_tests.pipeline import IOT, iot_here
from iot_pipeline_tests.servers import OwnServices, clean_environment

ROOT = Path(__file__).resolve().parents[2]
TRY_AGAIN = EXIT_TRANSIENT
# What a drain may end with while servers die: done, fenced, "try again later", SIGKILL of ours.
EXPECTED_CODES = {0, 3, TRY_AGAIN, -signal.SIGKILL}
DRAIN_SECONDS = 180
_BOMB_RECORDS = 1_800
# Offsets that a log loses, about: whole batches.
_MOST_CUT = 300
# Five quantities, two of which a message may lack.
NAMES = ("temperature", "humidity", "co2", "pm25", "noise")
OPTIONAL = frozenset({"humidity", "pm25"})
IN_PARTS = (
    "version: 1\ndevice: {path: device_id}\ntime: {path: timestamp, as: seconds}\nquantities:\n"
)
IN_PARTS += "".join(
    f"  {name}: {{min: 0, max: 100, optional: {str(name in OPTIONAL).lower()}}}\n" for name in NAMES
)


@dataclass(frozen=True)
class Lost:
    """Offsets [start, end) that were read, and that Kafka then lost."""

    partition: int
    start: int
    end: int


@dataclass
class World:
    """Names of one's own on some servers, their load, and how to drain and to judge them."""

    services: OwnServices
    env: dict[str, str]
    load: Load
    known: list[Found] = field(default_factory=list)
    unreadable: list[Stretch] = field(default_factory=list)

    def __post_init__(self) -> None:
        services = self.services
        self._checkpoints = Checkpoints(
            services.contact_points,
            services.cassandra_port,
            self.env["IOT_KEYSPACE"],
            self.env["IOT_TOPIC"],
        )

    @classmethod
    def on(cls, services: OwnServices, seed: int, name: str = "chaos", **overrides: str) -> "World":
        """Fresh topics and tables, set up; `name` begins that of the devices.

        Where `overrides` have an IOT_READING, messages have its quantities.
        """
        overrides = {
            "IOT_MICRO_BATCH_RECORDS": "1000",
            "IOT_RETRY_SECONDS": "15",
            "IOT_ON_EXPIRED": "record",
            "IOT_ON_UNREADABLE": "record",
            **overrides,
        }
        env = services.environment(**overrides)
        load = Load(services.bootstrap_servers, env["IOT_TOPIC"], seed, name=name)
        if "IOT_READING" in overrides:
            load.names, load.optional = NAMES, OPTIONAL
        world = cls(services, env, load)
        world.set_up()
        return world

    def set_up(self) -> None:
        """As `iot setup`, again where a server on a busy machine did not answer in time."""
        with open_connections(Settings.from_env(self.env)) as connections:
            retry_transient(connections.set_up, give_up_after_seconds=240)

    def iot(self, *arguments: str, exit_code: int = 0) -> str:
        """What a command says; one that says to try again, though it should not, is tried again."""
        for _ in range(3):
            done = self.run([str(IOT), *arguments])
            if done.returncode != TRY_AGAIN or exit_code == TRY_AGAIN:
                break
        assert done.returncode == exit_code, f"{arguments}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def run(self, command: list[str]) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command,
            cwd=ROOT,
            env=clean_environment(self.env),
            capture_output=True,
            text=True,
            timeout=DRAIN_SECONDS,
        )

    def start(self, command: list[str], **more: str) -> "subprocess.Popen[str]":
        """Start a command; `more` are variables of its environment."""
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=clean_environment({**self.env, **more}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def drain_all(self) -> None:
        """Until nothing lags."""
        for _ in range(20):
            done = self.run([str(IOT), "drain", "--json"])
            # A commit of a drain that sleeps, still on its way, fences us once.
            assert done.returncode in (0, 3, TRY_AGAIN), f"{done.stdout}\n{done.stderr}"
            if done.returncode == 0 and self._nothing_lags():
                return
        raise AssertionError("there was always something left to drain")

    def _nothing_lags(self) -> bool:
        committed = self.committed()
        return all(committed.get(p, 0) >= end for p, end in self.ends().items())

    def ask_oracle(self) -> Verdict:
        return judge(self.collect())

    def collect(self) -> Facts:
        """What there is now, by plain clients."""
        self._checkpoints.close()
        services = self.services
        return collect(
            services.bootstrap_servers,
            services.contact_points,
            services.cassandra_port,
            self.env["IOT_TOPIC"],
            self.env["IOT_KEYSPACE"],
            self.load.attempted,
            frozenset(self.load.acknowledged),
            self.known,
            self.unreadable,
            self.load.foreign,
            self.load.names,
        )

    def remember(self) -> dict[int, int]:
        """Keep what the topic has now, for the oracle: Kafka is about to delete some of it.

        Returns:
            The end of each partition; what comes later is not known.
        """
        ends: dict[int, int] = {}
        services, topic = self.services, self.env["IOT_TOPIC"]
        self.known += read_records(
            services.bootstrap_servers,
            topic,
            self.epochs(),
            ends,
            self.unreadable,
            self.load.foreign,
        )
        return ends

    def epochs(self) -> dict[int, int]:
        """Those of the ledger, by partition."""
        services = self.services
        with plain_session(services.contact_points, services.cassandra_port) as session:
            return read_epochs(session, self.env["IOT_KEYSPACE"], self.env["IOT_TOPIC"])

    def ends(self) -> dict[int, int]:
        """Up to where Kafka has records that a reader may see, by partition."""
        return read_ends(self.services.bootstrap_servers, self.env["IOT_TOPIC"])

    def send_unreadable(self, partition: int) -> Stretch:
        """A batch that no client can unpack, between what the load sends."""
        services, topic = self.services, self.env["IOT_TOPIC"]
        epoch = self.epochs().get(partition, 0)
        offsets = send_bomb(services.bootstrap_servers, topic, _BOMB_RECORDS, partition=partition)
        self.unreadable.append(Stretch(epoch, partition, *offsets))
        return self.unreadable[-1]

    def cut_log(self, dice: random.Random) -> Lost | None:
        """Kafka loses the end of a log, once all was drained; None where there is nothing to lose.

        The load has to pause meanwhile, and nothing may drain before the log has grown again.
        """
        ends, topic, epochs = self.remember(), self.env["IOT_TOPIC"], self.epochs()
        lows = {record.partition: record.offset for record in reversed(self.known)}
        partitions = sorted(ends)
        dice.shuffle(partitions)
        self.services.down("kafka")
        try:
            for partition in partitions:
                segment = Segment.newest(self.services.folder, topic, partition)
                start = segment.cut_back(dice.randint(1, _MOST_CUT), lows.get(partition, 1 << 62))
                if start is not None:
                    epoch = epochs[partition]
                    # What cannot be read and is there still: the next epoch may begin before it.
                    self.unreadable += [
                        replace(bad, epoch=epoch + 1)
                        for bad in self.unreadable
                        if (bad.partition, bad.epoch) == (partition, epoch) and bad.end <= start
                    ]
                    return Lost(partition, start, ends[partition])
        finally:
            self.services.up("kafka")
        return None

    def delete_some(self, dice: random.Random) -> None:
        """What retention does: the oldest records go, up to somewhere near the newest."""
        ends = self.remember()
        if not any(ends.values()):
            return
        admin = AdminClient({"bootstrap.servers": self.services.bootstrap_servers})
        places = [
            TopicPartition(self.env["IOT_TOPIC"], partition, end - dice.randint(0, min(end, 300)))
            for partition, end in ends.items()
        ]
        for future in admin.delete_records(places).values():
            with contextlib.suppress(KafkaException):  # lower than what was deleted before
                future.result(30)

    def make_topic_again(self) -> str:
        """Delete it with all that is in it, and set it up anew; returns the new UUID.

        The load has to pause meanwhile, or acknowledged records would be deleted unseen.
        """
        topic = self.env["IOT_TOPIC"]
        admin = AdminClient({"bootstrap.servers": self.services.bootstrap_servers})
        for future in admin.delete_topics([topic]).values():
            future.result(30)
        while topic in admin.list_topics(timeout=10).topics:
            time.sleep(0.05)
        self.set_up()
        described = admin.describe_topics(TopicCollection([topic]))[topic].result(30)
        return str(described.topic_id)

    def audit(self) -> dict[str, Any]:
        """What `iot audit --all` says, whatever its exit code; nothing else may go on meanwhile."""
        for _ in range(5):
            code, said, errors = iot_here(self.env, "audit", "--all", "--json")
            if code != TRY_AGAIN:
                break
        # 1 is a defect that was found, and any permanent error, which says nothing on stdout.
        assert code in (0, 1), errors
        assert said, errors
        answer: dict[str, Any] = json.loads(said)
        return answer

    def committed(self) -> dict[int, int]:
        """The checkpoints."""
        return self._checkpoints.read()


def crashing(method: str, at_call: int, when: str) -> list[str]:
    return [sys.executable, "-m", "iot_pipeline_tests.crashing_drain", method, str(at_call), when]


def sabotaged(kind: str) -> list[str]:
    return [sys.executable, "-m", "iot_pipeline_tests.chaos.sabotaged_drain", kind]


def wait_stopped(process: "subprocess.Popen[str]", seconds: float = 60) -> None:
    """Until the process has stopped itself with SIGSTOP."""
    deadline = until(seconds)
    while time.monotonic() < deadline:
        pid, status = os.waitpid(process.pid, os.WUNTRACED | os.WNOHANG)
        if pid and os.WIFSTOPPED(status):
            return
        assert not pid, f"it ended: {process.communicate()[0]}"
        time.sleep(0.05)
    process.kill()
    raise AssertionError(f"it never stopped: {process.communicate()[0]}")
