"""Exactly the rights of the data, and each of them taken away: on brokers and nodes that refuse."""

import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.resources import files as resources
from pathlib import Path

import dagster as dg
import pytest
import yaml
from confluent_kafka import TopicPartition

from iot_pipeline.connections import open_connections
from iot_pipeline.core.checks.verdicts import COULD_NOT_LOOK, CheckVerdict
from iot_pipeline.core.reading.declaration import SEED
from iot_pipeline.core.rights.grants import (
    DESCRIBE,
    DESCRIBE_CONFIGS,
    INCLUDE_DESCRIBE,
    SETTINGS_TABLE,
    CassandraGrant,
    KafkaGrant,
    kafka_line,
)
from iot_pipeline.core.rights.needed import COMMANDS, JOBS, Needs, Right, together
from iot_pipeline.definitions import build_definitions
from iot_pipeline.local.secure import USER as LOCAL_USER
from iot_pipeline.local.servers import LocalServices
from iot_pipeline.settings import Settings
from iot_pipeline.stages.checks.machinery import facts
from iot_pipeline.stages.checks.machinery.facts import Facts
from iot_pipeline.stages.checks.machinery.registry import all_checks, look_at
from iot_pipeline_tests.defs.conftest import Dagster
from iot_pipeline_tests.load import produce, reading_json
from iot_pipeline_tests.manifests import keep_small_manifest
from iot_pipeline_tests.pipeline import Pipeline
from iot_pipeline_tests.secure.administrator import Administrator
from iot_pipeline_tests.servers import OwnServices, fresh_keyspace, fresh_topic

pytestmark = pytest.mark.services

DEVICE, USER, MAKER = "pump_1", "ana", "maker"
SEED_FILE = resources("iot_pipeline") / "declarations" / "seed.yaml"
Grant = KafkaGrant | CassandraGrant
AnyRight = Right[KafkaGrant] | Right[CassandraGrant]


@dataclass
class World:
    """A pipeline that `MAKER` set up, and `USER`, who may do what a test allows."""

    pipeline: Pipeline
    admin: Administrator
    maker: Mapping[str, str]
    # What commands are told, found out while it was filled.
    place: str = ""
    loss: str = ""
    at: float = 0.0
    sent: int = 0

    @property
    def settings(self) -> Settings:
        return self.pipeline.settings

    @property
    def manifest(self) -> Path:
        return keep_small_manifest(self.settings.data_dir, self.settings.topic)

    @property
    def first_at(self) -> float:
        return self.at + 1

    @property
    def day(self) -> str:
        return datetime.fromtimestamp(self.at, UTC).date().isoformat()

    def may(self, needs: Needs, without: Grant | None = None, user: str = USER) -> None:
        """Allow exactly these, but for one and what includes it."""
        named = needs.named(self.settings)
        self.admin.allow_kafka(
            user, [r.grant for r in named.kafka if not _includes(r.grant, without)]
        )
        self.admin.allow_cassandra(user, [r.grant for r in named.cassandra if r.grant != without])

    def send(self, partition: int = 0, value: bytes | None = None) -> None:
        """A reading, a second newer than the one before; or what is none."""
        self.sent += 1
        reading = reading_json(DEVICE, self.at + self.sent, 20.0, 50.0)
        servers = {name: v for name, v in self.admin.config.items() if name != "bootstrap.servers"}
        produce(
            self.admin.config["bootstrap.servers"],
            self.settings.topic,
            [(DEVICE.encode(), value or reading)],
            partition=partition,
            **servers,
        )

    def lose(self) -> None:
        """Have Kafka delete, unread, a reading of partition 1."""
        self.send(1)
        place = TopicPartition(self.settings.topic, 1, -1)  # its end
        for future in self.admin.kafka.delete_records([place]).values():
            future.result(20)

    def record_loss(self) -> None:
        """Drain on behind it."""
        env = {**self.pipeline.env, "IOT_ON_EXPIRED": "record"}
        replace(self.pipeline, env=env).iot("drain")

    def tear(self) -> None:
        """Have the first reading's row mix two readings of one write time."""
        table = f"{self.settings.keyspace}.sensor_data"
        ms = round(self.first_at * 1000)
        key = f"device_id = '{DEVICE}' AND day = '{self.day}' AND timestamp = {ms}"
        (row,) = self.admin.cql(f"SELECT writetime(humidity) AS t FROM {table} WHERE {key}")
        self.admin.cql(f"UPDATE {table} USING TIMESTAMP {row.t} SET humidity = 60 WHERE {key}")

    def forget_declaration(self) -> None:
        """As if `iot setup` had run before declarations were kept; and there is one to drain."""
        self.admin.cql(f"TRUNCATE {self.settings.keyspace}.readings_declared")
        self.send()

    def look(self) -> dict[str, CheckVerdict]:
        """All checks, as `USER`."""
        with open_connections(Settings.from_env(self.pipeline.env)) as connections:
            found = look_at(all_checks(), Facts(connections, datetime.now(UTC)))
            return {verdict.name: verdict for verdict in found}

    def line(self, grant: Grant, user: str = USER) -> str:
        """What has to be pasted."""
        if isinstance(grant, KafkaGrant):
            return kafka_line([grant], user, self.settings.bootstrap_servers)
        return grant.line(user)


def _includes(grant: KafkaGrant, other: Grant | None) -> bool:
    """Whether who has `grant` has the other one too."""
    if grant == other:
        return True
    return (
        isinstance(other, KafkaGrant)
        and other.operation == DESCRIBE
        and grant == replace(other, operation=grant.operation)
        and grant.operation in INCLUDE_DESCRIBE
    )


@pytest.fixture(scope="module")
def world(secure_servers: OwnServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Set up, filled and drained, each by a user with exactly the rights for it."""
    admin = Administrator(secure_servers)
    env = secure_servers.environment(
        keyspace=fresh_keyspace(),
        IOT_PARTITIONS="2",
        IOT_RETRY_SECONDS="5",
        IOT_DATA_DIR=str(tmp_path_factory.mktemp("rights")),
    )
    env |= admin.make_user(USER)
    settings = Settings.from_env(env)
    with open_connections(settings) as connections:
        pipeline = Pipeline(settings, env, connections)
        found = World(pipeline, admin, {**env, **admin.make_user(MAKER)})
        found.may(COMMANDS["setup"], user=MAKER)
        replace(pipeline, env=found.maker).iot("setup")
        found.may(COMMANDS["simulate"])
        said = pipeline.iot("simulate", "--devices", "2", "--count", "20", "--rate", "max")
        assert "acknowledged 20" in said
        found.at = float(int(time.time()) - 600)
        found.send()
        found.send(1, b"no reading")
        found.may(COMMANDS["drain"])
        assert "21 stored" in pipeline.iot("drain")
        found.may(COMMANDS["dead-letters list"])
        (letter,) = pipeline.iot("dead-letters", "list", "--json")["dead_letters"]
        found.place = f"{letter['partition']}:{letter['offset']}"
        found.lose()
        found.may(COMMANDS["drain"])
        found.record_loss()
        found.may(COMMANDS["losses"])
        (loss,) = pipeline.iot("losses", "--json")["losses"]
        found.loss = loss["loss_id"]
        yield found
        admin.cql(f"DROP KEYSPACE {settings.keyspace}")
    admin.close()


def _nothing(_: World) -> None:
    return


def _unread(world: World) -> None:
    world.send()
    world.send(1, b"no reading")


@dataclass(frozen=True)
class Case:
    """A command that is told what `{0.name}` is in the world, after what it needs to find.

    With all its rights it ends with the exit code `found`.
    """

    words: str
    prepare: Callable[[World], None] = _nothing
    found: int = 0

    def run(self, world: World, exit_code: int = 0) -> str:
        self.prepare(world)
        words = shlex.split(self.words.format(world))
        return str(world.pipeline.iot(*words, exit_code=exit_code or self.found))


CASES: Mapping[str, Case] = {
    "drain": Case("drain", _unread),
    "simulate": Case("simulate --devices 1 --count 2 --rate max"),
    "replay": Case("replay --offsets 0:0-3"),
    "rollup": Case("rollup --day {0.day}"),
    "mend": Case(f"mend {DEVICE} {{0.first_at}}", World.tear),
    "audits": Case("audits"),
    "losses --acknowledge": Case("losses --acknowledge {0.loss} --reason tested"),
    "dead-letters replay": Case("dead-letters replay"),
    "rebase": Case("rebase --at latest --skip tested", World.send),
    "throttle": Case("throttle off"),
    "lag": Case("lag"),
    "latest": Case("latest"),
    "readings": Case(f"readings {DEVICE}"),
    "devices": Case("devices"),
    "rollups": Case(f"rollups --day {{0.day}} {DEVICE}"),
    "report": Case("report"),
    "export": Case("export --day {0.day} --out {0.settings.data_dir}/export"),
    "cql": Case("cql 'SELECT device_id FROM sensor_data LIMIT 1'"),
    "ledger": Case("ledger"),
    "trace": Case(f"trace {DEVICE} {{0.first_at}}"),
    "losses": Case("losses"),
    "metrics": Case("metrics"),
    "watch": Case("watch --once"),
    "verify": Case("verify {0.manifest}"),
    "reading check": Case(f"reading check {SEED_FILE}", found=1),
    "reading infer": Case("reading infer"),
    "reading list": Case("reading list"),
    "reading show --fingerprint": Case(f"reading show --fingerprint {SEED.fingerprint}"),
    "dead-letters list": Case("dead-letters list"),
    "dead-letters show": Case("dead-letters show {0.place}"),
    "dead-letters stats": Case("dead-letters stats"),
    # An audit finds the row that is torn for `mend`.
    "audit": Case("audit --all", World.tear, found=1),
    # The last: they take what others look at.
    "forget": Case("forget --reason tested --yes nobody"),
    "delete": Case(f"delete --day {{0.day}} --reason tested --yes {DEVICE}"),
}
# Set up for the world itself, and a test of its own: `iot demo` does what all the others do.
ELSEWHERE = {"setup", "demo"}
# These look at all checks, each of which says by itself what it may not see.
LOOKING = {"report", "metrics", "watch"}
# Where the first command that needs a right does not always come to need it.
SHOWN_BY = {
    "MODIFY ON TABLE {0.keyspace}.replay_ledger": ("replay", CASES["replay"]),
    "MODIFY ON TABLE {0.keyspace}.stopped_partitions": ("drain", Case("drain", World.lose)),
    "MODIFY ON TABLE {0.keyspace}.readings_declared": (
        "drain",
        Case("drain", World.forget_declaration),
    ),
    "MODIFY ON TABLE {0.keyspace}.sensor_data": ("drain", CASES["drain"]),
    "MODIFY ON TABLE {0.keyspace}.ingest_ledger": ("drain", CASES["drain"]),
}
# Nobody is told: Kafka leaves out what we may not see; what is kept is derived.
SILENT = {"Describe transactional-id *"} | {
    f"MODIFY ON TABLE {{0.keyspace}}.{table}"
    for table in ("ledger_sums", "settled_days", "run_costs")
}


def _rights(needs: Needs) -> list[AnyRight]:
    return [*needs.kafka, *needs.cassandra]


def _needed(needs: Needs) -> Needs:
    """Without what is optional."""
    return without_any(needs, [right.grant for right in _rights(needs) if right.lost])


def without_any(needs: Needs, grants: Sequence[Grant]) -> Needs:
    return Needs(
        kafka=tuple(right for right in needs.kafka if right.grant not in grants),
        cassandra=tuple(right for right in needs.cassandra if right.grant not in grants),
    )


def _taken() -> Iterator[tuple[str, Case, AnyRight]]:
    """Each right once, needed or not, with a command that shows that it is missing."""
    seen: set[str] = set()
    for command in CASES:
        needs = COMMANDS[command]
        for right in _rights(needs):
            said = str(right.grant)
            if said in seen or said in SILENT or command in LOOKING:
                continue
            seen.add(said)
            by, case = SHOWN_BY.get(said, (command, CASES[command]))
            yield by, case, right


def test_each_command_that_needs_a_right_is_tried() -> None:
    needing = {name for name, needs in COMMANDS.items() if needs.kafka or needs.cassandra}
    assert needing - ELSEWHERE == CASES.keys()


@pytest.mark.parametrize(
    ("command", "case", "right"),
    [pytest.param(*one, id=f"{one[0]} without {one[2].grant}") for one in _taken()],
)
def test_a_right_that_is_taken_away_is_named_with_the_line_that_grants_it(
    world: World, command: str, case: Case, right: AnyRight
) -> None:
    needs = COMMANDS[command]
    grant = _named(right, world)
    world.may(needs, without=grant)
    said = case.run(world, exit_code=0 if right.lost else 1)
    assert world.line(grant) in said
    if not right.lost:
        (line,) = [line for line in said.splitlines() if line.startswith("iot: ")]
        assert f"does not let {'user' if isinstance(grant, KafkaGrant) else 'role'} {USER} " in line
    assert "Traceback" not in said
    if case.prepare is World.lose:
        world.may(needs)
        world.record_loss()


@pytest.mark.parametrize("command", CASES)
def test_each_command_works_with_exactly_its_rights(world: World, command: str) -> None:
    world.may(COMMANDS[command])
    said = CASES[command].run(world)
    assert "does not let" not in said


def _named(right: AnyRight, world: World) -> Grant:
    if isinstance(right.grant, KafkaGrant):
        (kafka,) = Needs(kafka=(Right(right.grant),)).named(world.settings).kafka
        return kafka.grant
    (cassandra,) = Needs(cassandra=(Right(right.grant),)).named(world.settings).cassandra
    return cassandra.grant


CHECKS = JOBS["checks"]


@pytest.mark.parametrize(
    "right",
    [pytest.param(right, id=str(right.grant)) for right in _rights(CHECKS) if right.lost],
)
def test_a_check_that_may_not_see_says_which_right_to_ask_for(
    world: World, right: AnyRight
) -> None:
    grant = _named(right, world)
    world.may(CHECKS, without=grant)
    unseen = [verdict for verdict in world.look().values() if not verdict.is_looked]
    is_told = str(right.grant) not in SILENT and "device_states" not in str(grant)
    assert bool(unseen) == is_told
    for verdict in unseen:
        assert verdict.sentence.startswith(COULD_NOT_LOOK)
        assert world.line(grant) in verdict.sentence


def test_who_reads_may_look_at_everything_but_what_only_a_writer_keeps(world: World) -> None:
    # The sums that are kept of the ledger are behind it then.
    world.may(COMMANDS["drain"])
    world.send()
    world.pipeline.iot("drain")
    world.may(COMMANDS["report"])
    assert [verdict for verdict in world.look().values() if not verdict.is_looked] == []


def test_who_may_only_look_sets_up_to_see_that_all_is_well(world: World) -> None:
    world.may(COMMANDS["report"])
    said = world.pipeline.iot("setup")
    assert "everything was there already" in said
    unseen = [right.grant for right in _rights(COMMANDS["setup"]) if right.lost]
    world.may(without_any(COMMANDS["report"], unseen))
    said = world.pipeline.iot("setup")
    assert said.count("WARNING: not known: describing topic ") == 2
    assert "WARNING: whether acknowledged writes are durable is not known: " in said
    for right in _rights(COMMANDS["setup"]):
        if right.lost:
            assert world.line(_named(right, world)) in said


@pytest.mark.parametrize(
    "right",
    [
        pytest.param(right, id=str(right.grant))
        for right in _rights(COMMANDS["setup"])
        if not right.lost
    ],
)
def test_who_may_not_make_what_is_missing_is_told_who_may(world: World, right: AnyRight) -> None:
    names = {"IOT_TOPIC": fresh_topic(), "IOT_KEYSPACE": fresh_keyspace()}
    env = {**world.maker, **names}
    other = replace(
        world, pipeline=replace(world.pipeline, settings=Settings.from_env(env), env=env)
    )
    grant = _named(right, other)
    other.may(COMMANDS["setup"], without=grant, user=MAKER)
    said = other.pipeline.iot("setup", exit_code=1)
    assert other.line(grant, MAKER) in said
    assert (
        "run `iot setup` as a user that has the rights of `iot rights --for setup`; "
        "nothing was made" in said
    )
    topics = world.admin.kafka.list_topics(timeout=20).topics
    assert not {other.settings.topic, other.settings.dead_letter_topic} & topics.keys()
    keyspaces = world.admin.cql("SELECT keyspace_name FROM system_schema.keyspaces")
    assert names["IOT_KEYSPACE"] not in {row.keyspace_name for row in keyspaces}


def test_a_run_of_dagster_without_what_is_optional_is_a_success(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.may(_needed(JOBS["ingest"]))
    world.send()
    world.send(1, b"no reading")
    for name, value in world.pipeline.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(facts, "LEAST_BUDGET_SECONDS", 60.0)
    shipped = yaml.safe_load(resources("iot_pipeline.defs").joinpath("dagster.yaml").read_text())
    logs = {"python_logs": shipped["python_logs"]}
    with dg.DagsterInstance.ephemeral(settings=logs) as instance:
        outcome = Dagster(build_definitions(), instance).launch("ingest")
        told = [entry.user_message for entry in instance.all_logs(outcome.run.run_id)]
    assert outcome.is_success, outcome.failure
    refused = [line for line in told if "without it lag tools see an old offset" in line]
    assert len(refused) == 1, told
    (mirror,) = (right for right in _rights(JOBS["ingest"]) if "lag tools" in right.lost)
    assert world.line(_named(mirror, world)) in refused[0]
    assert outcome.metadata is not None
    assert outcome.metadata["stored"] == 1
    for check, line in (
        ("acknowledged_is_durable", f"`GRANT SELECT ON TABLE {SETTINGS_TABLE} TO {USER};`"),
        ("retention_is_far", f"--operation {DESCRIBE_CONFIGS} --topic {world.settings.topic}`"),
        ("topic_is_safe", f"--operation {DESCRIBE_CONFIGS} --topic {world.settings.topic}`"),
        ("dead_letters_are_few", f"--topic {world.settings.dead_letter_topic}`"),
    ):
        assert str(outcome.red[check]).startswith(COULD_NOT_LOOK)
        assert line in str(outcome.red[check])


def test_the_user_of_the_local_servers_may_what_commands_do_with_the_names_of_the_settings(
    secure_servers: OwnServices, world: World
) -> None:
    names = {"IOT_TOPIC": fresh_topic(), "IOT_KEYSPACE": fresh_keyspace()}
    env = {**secure_servers.env, **names}
    ours = replace(world.pipeline, env=env)
    assert f"--operation Create --topic {names['IOT_TOPIC']}`" in ours.iot("setup", exit_code=1)
    settings = Settings.from_env(env)
    LocalServices(settings, print).up()
    wanted = together([*COMMANDS.values(), *JOBS.values()]).named(settings)
    assert {right.grant for right in wanted.kafka} <= world.admin.rights_on_kafka(LOCAL_USER)
