import contextlib
import fcntl
import functools
import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
import time

import click
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from iot_pipeline.cli import simulate as simulate_command
from iot_pipeline.cli.main import iot, main
from iot_pipeline.cli.simulate import parse_seconds
from iot_pipeline.clients.kafka_producer import open_sender
from iot_pipeline.errors import ConfigurationError
from iot_pipeline_tests.patience import until
from iot_pipeline_tests.pipeline import IOT


@pytest.fixture(scope="module")
def wire():
    """A broker inside librdkafka with the topic iot_data, for the processes we start."""
    cluster = Producer({"bootstrap.servers": "unused", "test.mock.num.brokers": 1, "log_level": 0})
    brokers = cluster.list_topics(timeout=10).brokers.values()
    servers = ",".join(f"{b.host}:{b.port}" for b in brokers)
    cluster.produce("iot_data", b"made")
    assert cluster.flush(10) == 0
    yield servers
    cluster.flush(1)


def start_iot(servers, *arguments):
    env = {k: v for k, v in os.environ.items() if not k.startswith("IOT_")}
    return subprocess.Popen(
        [sys.executable, "-c", "from iot_pipeline.cli.main import main; main()", *arguments],
        env=env | {"IOT_BOOTSTRAP_SERVERS": servers},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def records_in_topic(consumer):
    partitions = consumer.list_topics("iot_data", timeout=10).topics["iot_data"].partitions
    return sum(
        consumer.get_watermark_offsets(TopicPartition("iot_data", p), timeout=10)[1]
        for p in partitions
    )


def wait_until_it_sends(process, servers, before):
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "watcher"})
    give_up_at = until(30)
    while records_in_topic(consumer) == before:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < give_up_at
        time.sleep(0.05)
    consumer.close()


def start_sending(servers, *arguments):
    """A process that is certainly simulating: its first records are in the topic."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "watcher"})
    before = records_in_topic(consumer)
    consumer.close()
    process = start_iot(servers, *arguments)
    wait_until_it_sends(process, servers, before)
    return process


def run_iot(servers, *arguments):
    process = start_iot(servers, *arguments)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_a_simulation_ends_with_what_was_produced_and_acknowledged(wire):
    code, out, err = run_iot(wire, "simulate", "--rate", "max", "--count", "5000", "--json")
    assert (code, err) == (0, "")
    answer = json.loads(out)
    assert (answer["produced"], answer["acknowledged"]) == (5_000, 5_000)
    assert (answer["failed"], answer["unconfirmed"], answer["stopped"]) == (0, 0, False)


def test_a_set_rate_is_not_exceeded(wire):
    code, out, _ = run_iot(
        wire, "simulate", "--devices", "50", "--rate", "2000", "--duration", "2s", "--json"
    )
    answer = json.loads(out)
    assert (code, answer["produced"]) == (0, 4_000)
    # How evenly it is kept is told by a clock of the test's own (core/simulator/test_pacing.py):
    # this one is a busy machine's, which may be slower by any factor.
    assert answer["rate"] < 2_020


def test_without_json_people_read_one_line(wire):
    code, out, _ = run_iot(wire, "simulate", "--rate", "max", "--count", "1200")
    assert code == 0
    assert out.startswith("iot_data: produced 1,200, acknowledged 1,200 in ")
    assert out.count("\n") == 1


@pytest.mark.parametrize(
    ("signal_number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
@pytest.mark.parametrize("rate", ["max", "500"])
def test_a_signal_ends_it_at_once_with_the_true_count(wire, signal_number, exit_code, rate):
    process = start_sending(
        wire, "simulate", "--devices", "9", "--rate", rate, "--duration", "50", "--json"
    )
    process.send_signal(signal_number)
    signalled_at = time.monotonic()
    out, err = process.communicate(timeout=30)
    # Half a second here, of the fifty that it was asked to send for.
    assert time.monotonic() - signalled_at < 25
    assert process.returncode == exit_code, err
    answer = json.loads(out)
    assert answer["stopped"]
    assert answer["produced"] == answer["acknowledged"] + answer["unconfirmed"] > 0


def test_on_a_terminal_progress_is_shown_while_it_sends_and_gone_at_the_end(wire):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
    env = {k: v for k, v in os.environ.items() if not k.startswith("IOT_") and k != "COLUMNS"}
    with subprocess.Popen(
        [IOT, "simulate", "--rate", "200", "--duration", "50"],
        env=env | {"IOT_BOOTSTRAP_SERVERS": wire, "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        shown = b""
        while b"acknowledged" not in shown:
            shown += os.read(ours, 65_536)
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # how a terminal says that nobody writes to it any more
            while read := os.read(ours, 65_536):
                shown += read
    os.close(ours)
    assert process.returncode == 130
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    lines = re.split(r"[\r\n]+", text)
    assert any(re.match(r"simulating, messages: \d+ of 10,000, \d+ ack", line) for line in lines)
    assert all(len(line) <= 80 for line in lines)
    assert re.match(r"iot_data: produced (\d+), acknowledged \1 in ", lines[-2])


def test_the_preset_is_the_original_script_and_options_win_over_it(wire):
    process = start_sending(wire, "simulate", "--preset", "seed", "--json")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    answer = json.loads(out)
    assert (answer["devices"], answer["interval_seconds"]) == (3, 3.0)
    assert 1 <= answer["produced"] <= 30

    code, out, _ = run_iot(
        wire, "simulate", "--preset", "seed", "--rate", "max", "--count", "7", "--json"
    )
    assert (code, json.loads(out)["produced"]) == (0, 7)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--rate", "fast"], "rate 'fast'"),
        (["--rate", "max"], "give a count or a duration"),
        (["--duration", "soon"], "--duration 'soon'"),
        (["--start", "yesterday"], "yesterday: expected a time"),
        (["--devices", "0"], "devices 0"),
        (["--preset", "seed", "--devices", "0"], "devices 0"),
        (["--rate", ""], "rate ''"),
        (["--count", "5", "--duration", "5"], "one of them"),
        (["--count", "many"], "many"),
    ],
)
def test_wrong_options_are_named_before_anything_is_contacted(arguments, named, monkeypatch):
    # Nothing listens there: contacting it would be another error, after 5 s.
    monkeypatch.setenv("IOT_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    with pytest.raises((ConfigurationError, click.UsageError), match=named):
        iot.main(["simulate", *arguments], standalone_mode=False)


def test_a_wrong_option_ends_with_the_exit_code_of_wrong_usage():
    code, out, err = run_iot("127.0.0.1:1", "simulate", "--devices", "0")
    assert (code, out) == (2, "")
    assert "devices 0" in err


def test_no_broker_is_a_reason_to_try_again_and_not_a_traceback(monkeypatch, capsys):
    # Here, not in a process of its own: five seconds of looking for a broker become half a one.
    opened = functools.partial(open_sender, connect_seconds=0.5)
    monkeypatch.setattr(simulate_command, "open_sender", opened)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setenv("IOT_BOOTSTRAP_SERVERS", address)
        monkeypatch.setattr(sys, "argv", ["iot", "simulate", "--count", "1"])
        with pytest.raises(SystemExit) as ended:
            main()
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (75, "")
    assert address in err
    assert "`iot up`" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7_200), ("1d", 86_400), (".5", 0.5)],
)
def test_durations_are_read_as_people_write_them(text, seconds):
    assert parse_seconds("--duration", text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "1w", "1h30m", "nan"])
def test_durations_nobody_can_read_are_refused(text):
    with pytest.raises(ConfigurationError, match="--duration"):
        parse_seconds("--duration", text)
