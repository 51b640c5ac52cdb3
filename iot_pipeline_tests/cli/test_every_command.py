"""Every command of `iot` on every kind of terminal, with servers there and with servers away.

The commands come from `iot` itself: a new one is red here until it has an example.
"""

import getpass
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from iot_pipeline.connections import open_connections
from iot_pipeline.settings import Settings
from iot_pipeline_tests.cli.terminals import (
    TERMINALS,
    TROUBLES,
    Seen,
    Terminal,
    all_commands,
    run_all,
)
from iot_pipeline_tests.load import delete_before, fleet, produce, reading_json
from iot_pipeline_tests.manifests import keep_small_manifest
from iot_pipeline_tests.pipeline import Pipeline
from iot_pipeline_tests.servers import Services, free_ports

# Blanks, quotes, what a shell expands, and a dash in front: whatever prints it prints it whole.
DEVICE = "-pump 7 $HOME 'ü'"


@dataclass(frozen=True)
class Example:
    """Words after the command, and the exit codes with servers there and away.

    `shows` are texts that must stand in the output whole, on one line. Names in braces stand for
    what is only known when the pipeline was filled: `Filled` has them.
    """

    words: tuple[str, ...] = ()
    there: int = 0
    away: int = 75
    shows: tuple[str, ...] = ()


# With a command's name as `iot` has it. Several examples: several ways to print.
EXAMPLES: dict[str, list[Example]] = {
    "audit": [
        Example(("--all",), shows=("expired", "are proven")),
        Example(("--json",), shows=('"proven"',)),
        Example(("--day", "{day}"), shows=("audited for {day}",)),
    ],
    "audits": [
        Example(("--days", "36525"), shows=("{day}",)),
        Example(("--days", "36525", "--json"), shows=('"state"',)),
    ],
    "cql": [Example(("SELECT device_id, day, timestamp FROM sensor_data LIMIT 3",))],
    "dead-letters list": [
        Example(shows=("{place}", "not_json")),
        Example(("--reason", "not_json", "--all"), shows=("{place}",)),
    ],
    "dead-letters replay": [Example(shows=("1 dead letter = ",))],
    "dead-letters show": [Example(("{place}",), shows=("not a reading",))],
    "dead-letters stats": [Example(shows=("not_json",))],
    # There is no instance: what one lacks has a test of its own.
    "check-instance": [Example(there=2, away=2)],
    "delete": [Example(("--day", "2001-01-01", "--reason", "a test", "--yes", "--", "{device}"))],
    # The whole of it is a test of its own; this is what it refuses.
    "demo": [Example(("--once", "--scenario", "rough_day"), there=2, away=2)],
    "devices": [
        Example(shows=("{device}",)),
        Example(("--problems",)),
        Example(("--silent",)),
        Example(("--all",), shows=("{device}", "devices listed")),
    ],
    "down": [Example(away=0)],
    "forget": [
        Example(("--reason", "a test", "--yes", "--", "nobody"), shows=("not reached:",)),
    ],
    "drain": [
        # Apart from each other: runs of one Kafka partition fence each other, exit code 3.
        Example(("--max-records", "100", "--partitions", "2")),
        Example(("--follow", "--seconds", "3", "--partitions", "3")),
    ],
    "export": [Example(("--day", "{day}", "--out", "{out}"), shows=("{day}",))],
    "kill": [Example(("kafka",), there=1, away=1)],
    "lag": [Example(shows=("total",))],
    "latest": [
        Example(
            ("--", "{device}", "nobody"),
            shows=("{device}", "{measured_at}", "no reading of the last 7 days: nobody"),
        )
    ],
    "ledger": [Example(shows=("{run_id}", "the chain holds", "left unread: up to"))],
    "logs": [Example(away=0, shows=("kafka has no log",))],
    "losses": [
        Example(shows=("{loss_id}", "{run_id_of_loss}", "{user}")),
        Example(("--exit-code",)),
    ],
    "readings": [
        Example(("--", "{device}"), shows=("{device}", "{measured_at}")),
        Example(("--format", "plot", "--", "{device}"), shows=("temperature (°C)",)),
    ],
    "reading check": [Example(shows=("nothing was written",))],
    "reading infer": [Example(("--records", "500"), shows=("{{path: device_id}}",))],
    "reading list": [Example(shows=("the present declaration is", "first seen"))],
    "reading show": [Example(away=0, shows=("the original message",))],
    "rebase": [Example(("--topic-id", "of-another", "--at", "earliest"), there=1)],
    "replay": [Example(("--offsets", "1:0-40"), shows=("read back: 40 of 40 rows",))],
    # The pipeline has a loss that was recorded: the report is not green.
    "report": [Example(shows=("latest.html",)), Example(("--exit-code",), there=1)],
    "rights": [Example(("--for", "ingest"), away=0, shows=("GRANT SELECT ON KEYSPACE",))],
    "rollup": [Example(("--day", "{day}"), shows=("{day}",))],
    "rollups": [
        Example(("--day", "{day}", "--", "{device}")),
        Example(("--hourly", "--day", "{day}", "--", "{device}")),
    ],
    "size": [
        Example(("--devices", "100000", "--interval", "60s"), away=0, shows=("1,667 readings/s",)),
    ],
    "scenarios": [Example(away=0, shows=("rough_day",))],
    "settings": [Example(away=0, shows=("IOT_PLAUSIBLE_TEMPERATURE_MIN",))],
    "setup": [Example()],
    "simulate": [Example(("--rate", "max", "--count", "50"), shows=("acknowledged 50",))],
    "status": [Example(away=1, shows=("kafka", "cassandra"))],
    # What cannot be asked is a metric too, or a sentence: neither fails.
    "metrics": [Example(away=0, shows=("iot_lag_offsets",))],
    "watch": [Example(("--once",), away=0)],
    "mend": [Example(("--", "{device}", "{measured_at}"), shows=("is whole",))],
    "throttle": [
        Example(("900000", "--bytes", "90000000"), shows=("900,000 rows/s", "{user}")),
    ],
    "trace": [Example(("--", "{device}", "{measured_at}"), shows=("{device}", "{message}"))],
    "verify": [Example(("{manifest}",), shows=("PASS",))],
    "up": [Example(away=2, shows=("kafka", "cassandra"))],
}
# What can only be said after a look.
CLAIMS = (
    "nothing lags",
    "nothing is",
    "nothing expired",
    "holds",
    "proven",
    "no reading",
    "0 devices",
)
# What examples name, of a pipeline that nothing is known of.
UNKNOWN = {
    "place": "1:0",
    "device": DEVICE,
    "day": "2026-01-31",
    "measured_at": "2026-01-31T12:00:00Z",
}
HELP = [
    ["--help"],
    ["-h"],
    ["--version"],
    *([*name.split(), "--help"] for name in all_commands()),
]


def _unknown(nowhere: dict[str, str]) -> dict[str, str]:
    folder = Path(nowhere["IOT_DATA_DIR"])
    manifest = keep_small_manifest(folder, nowhere.get("IOT_TOPIC", "iot_data"))
    return UNKNOWN | {"out": str(folder / "export"), "manifest": str(manifest)}


def test_every_command_has_an_example() -> None:
    assert sorted(EXAMPLES) == sorted(all_commands())


def complaints(seen: Seen, code: int | None, shows: tuple[str, ...]) -> list[str]:
    found = seen.complaints()
    if code is not None and seen.code != code:
        found.append(f"exit code {seen.code} instead of {code}")
    for text in shows:
        if not any(text in line for line in seen.lines):
            found.append(f"{text!r} is not on one of its lines")
    return [f"{'; '.join(found)}\n{seen}"] if found else []


def test_help_is_whole_on_every_terminal() -> None:
    asked = [(words, terminal) for words in HELP for terminal in TERMINALS]
    found = [c for seen in run_all(asked, {}, at_once=4) for c in complaints(seen, 0, ())]
    assert not found, "\n\n".join(found)


@pytest.fixture
def nowhere(tmp_path: Path) -> dict[str, str]:
    """Settings of servers that are away, and of local ones that cannot be meant."""
    ports = [str(port) for port in free_ports(3)]
    return {
        "IOT_BOOTSTRAP_SERVERS": f"127.0.0.1:{ports[0]}",
        "IOT_KAFKA_PORT": ports[1],
        "IOT_CASSANDRA_PORT": ports[2],
        "IOT_RETRY_SECONDS": "0",
        "IOT_DATA_DIR": str(tmp_path),
    }


def test_with_servers_away_every_command_says_so_and_ends(nowhere: dict[str, str]) -> None:
    known = _unknown(nowhere)
    asked = [
        (name, example, terminal)
        for name, examples in EXAMPLES.items()
        for example in examples
        for terminal in TERMINALS
    ]
    seen = run_all([(_words(n, e, known), t) for n, e, t in asked], nowhere, at_once=200)
    print(*seen, sep="\n")
    found = []
    for (_, example, _), one in zip(asked, seen, strict=True):
        found += complaints(one, example.away, ())
        if example.away == 75:
            found += [f"it claims {claim!r}\n{one}" for claim in CLAIMS if claim in one.plain]
            if "127.0.0.1:" not in one.plain:
                found.append(f"it does not say which server is away\n{one}")
            words = " ".join(one.plain.split())
            if "`iot status`" not in words and "`iot up`" not in words:
                found.append(f"it does not say what to do\n{one}")
    assert not found, "\n\n".join(found)


# Codes that a command may end with, whatever it was going to say: the trouble is met first, or not
# at all where nothing is written.
MAY_END_WITH = {
    "a full disk": {1},
    "a reader that has gone": {141},
    "a .env in UTF-16": {0, 2},
    # Its folder has an empty docker-compose.yml.
    "a .env that is a folder": {0, 1, 2},
    "a data folder that is a file": {2},
    "a user without a name": {1, 2},
}


def test_whatever_is_wrong_around_it_every_command_says_one_sentence_and_ends(
    nowhere: dict[str, str],
) -> None:
    known = _unknown(nowhere)
    asked = [
        (name, example, Terminal(trouble, None, trouble=trouble))
        for name, examples in EXAMPLES.items()
        for example in examples[:1]
        for trouble in TROUBLES
    ]
    words = [_words(n, e, known) for n, e, _ in asked]
    seen = run_all(
        [(w, t) for w, (_, _, t) in zip(words, asked, strict=True)], nowhere, at_once=200
    )
    found = []
    for (_, example, terminal), one in zip(asked, seen, strict=True):
        allowed = {example.away} | MAY_END_WITH.get(terminal.trouble, set())
        if one.code not in allowed:
            found.append(f"exit code {one.code}, not one of {sorted(allowed)}\n{one}")
        if "Traceback" in one.text or "Exception ignored" in one.text:
            found.append(f"a traceback\n{one}")
        if (
            terminal.trouble == "a .env in UTF-16"
            and one.code
            and ".env: it is not UTF-8" not in one.text
        ):
            found.append(f"it does not name the file\n{one}")
    assert not found, "\n\n".join(found)


@pytest.mark.parametrize(
    ("argument", "said"),
    [("x" * 70_000, "70,000 bytes"), ("\udcff", "expected arguments in UTF-8")],
    ids=["70 KB", "no UTF-8"],
)
def test_an_argument_that_nothing_could_take_is_a_sentence_of_every_command(
    nowhere: dict[str, str], argument: str, said: str
) -> None:
    pipe = TERMINALS[-1]
    asked = [([*name.split(), argument], pipe) for name in EXAMPLES]
    found = []
    for one in run_all(asked, nowhere, at_once=200):
        if one.code != 2 or said not in one.text or "Traceback" in one.text:
            found.append(str(one)[-2_000:])
        if len(one.text) > 300:
            found.append(f"it repeats all of it: {one.text[:200]}")
    assert not found, "\n\n".join(found)


# What a person types for a moment, and what is said of it.
UNITS = {
    "1700000000000": "milliseconds: 1700000000.000 is in seconds",
    "1700000000000000": "microseconds: 1700000000.000 is in seconds",
    "1700000000000000000": "nanoseconds: 1700000000.000 is in seconds",
    "1e300": "expected a time between 2000 and 2100",
    "nan": "expected a time between 2000 and 2100",
    "9999-01-01": "expected a time between 2000 and 2100",
    "yesterday": "expected a time such as",
}


def test_a_time_in_another_unit_is_told(nowhere: dict[str, str]) -> None:
    asked = [(command, timestamp) for command in ("trace", "mend") for timestamp in UNITS]
    invocations = [([command, "device_1", moment], TERMINALS[-1]) for command, moment in asked]
    found = [
        str(seen)
        for seen, (_, timestamp) in zip(
            run_all(invocations, nowhere, at_once=4), asked, strict=True
        )
        if seen.code != 2 or UNITS[timestamp] not in seen.text
    ]
    assert not found, "\n\n".join(found)


# With servers.


@dataclass(frozen=True)
class Filled:
    """A pipeline with readings, a dead letter and a loss; `known` is what examples name."""

    pipeline: Pipeline
    known: dict[str, str]

    def fill(self, number: int) -> None:
        """Something for a drain to do."""
        prefix = f"more_{number}"
        produce(self.pipeline.brokers, self.pipeline.topic, fleet(prefix, 5, 500), partition=2)


@pytest.fixture(scope="module")
def filled(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    folder = tmp_path_factory.mktemp("every")
    env = services.environment(IOT_DATA_DIR=str(folder), IOT_ON_EXPIRED="record")
    settings = Settings.from_env(env)
    with open_connections(settings) as connections:
        connections.set_up()
        pipeline = Pipeline(settings, env, connections)
        now = datetime.now(UTC).replace(microsecond=0).timestamp() - 60
        letters = [(b"key", b"{ not a reading }")]
        message = reading_json(DEVICE, now, 21.5)
        mine = [
            (b"key", message),
            *((b"key", reading_json(DEVICE, now - n, 20 + n)) for n in range(1, 40)),
        ]
        produce(pipeline.brokers, pipeline.topic, mine, partition=1)
        produce(pipeline.brokers, pipeline.topic, letters, partition=0)
        produce(pipeline.brokers, pipeline.topic, fleet("lost", 2, 150), partition=0)
        run_id = pipeline.iot("drain", "--json")["run_id"]
        produce(pipeline.brokers, pipeline.topic, fleet("lost_too", 2, 100), partition=0)
        delete_before(pipeline.brokers, pipeline.topic, 0, 201)
        run_of_loss = pipeline.iot("drain", "--json")["run_id"]
        (loss,) = pipeline.iot("losses", "--json")["losses"]
        pipeline.iot("losses", "--acknowledge", loss["loss_id"], "--reason", "a test made it")
        measured = datetime.fromtimestamp(now, UTC)
        known = {
            "device": DEVICE,
            "place": "0:0",
            "run_id": run_id,
            "run_id_of_loss": run_of_loss,
            "loss_id": loss["loss_id"],
            "user": getpass.getuser(),
            "day": str(measured.date()),
            "measured_at": f"{measured:%Y-%m-%dT%H:%M:%S}.000Z",
            "message": message.decode()[:40],
            "out": str(folder / "export"),
            "manifest": str(keep_small_manifest(folder, settings.topic)),
        }
        yield Filled(pipeline, known)


@pytest.mark.services
@pytest.mark.parametrize("terminal", TERMINALS, ids=lambda terminal: terminal.name)
def test_with_servers_every_command_prints_what_a_person_can_read(
    filled: Filled, terminal: Terminal
) -> None:
    filled.fill(TERMINALS.index(terminal))
    asked = [(name, example) for name, examples in EXAMPLES.items() for example in examples]
    seen = run_all(
        [(_words(name, example, filled.known), terminal) for name, example in asked],
        filled.pipeline.env,
        at_once=4,
    )
    print(*seen, sep="\n")
    found = []
    for (_, example), one in zip(asked, seen, strict=True):
        shows = tuple(text.format(**filled.known) for text in example.shows)
        found += complaints(one, example.there, shows)
    assert not found, "\n\n".join(found)


@pytest.mark.services
def test_before_setup_every_command_says_what_is_missing(
    services: Services, tmp_path: Path
) -> None:
    env = services.environment(IOT_DATA_DIR=str(tmp_path), IOT_RETRY_SECONDS="1")
    known = _unknown(env)
    asked = [
        (name, example)
        for name, examples in EXAMPLES.items()
        for example in examples
        if example.away == 75 and name != "setup"
    ]
    seen = run_all([(_words(n, e, known), TERMINALS[0]) for n, e in asked], env, at_once=4)
    print(*seen, sep="\n")
    found = []
    for one in seen:
        found += complaints(one, 1, ())
        found += [f"it claims {claim!r}\n{one}" for claim in CLAIMS if claim in one.plain]
        if "`iot setup`" not in one.plain:
            found.append(f"it does not say what makes topic and tables\n{one}")
    assert not found, "\n\n".join(found)


def _words(name: str, example: Example, known: dict[str, str]) -> list[str]:
    words = [
        known[word[1:-1]] if word.startswith("{") and word.endswith("}") else word
        for word in example.words
    ]
    return [*name.split(), *words]
