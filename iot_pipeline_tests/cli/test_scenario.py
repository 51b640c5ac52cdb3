import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import msgspec
import pytest
from confluent_kafka import Producer

from iot_pipeline.cli.main import iot
from iot_pipeline.core.simulator.manifest import Manifest
from iot_pipeline.core.simulator.scenario_file import parse_scenario
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.local.scenario_files import shipped_scenarios


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


def start_iot(servers, data_dir, *arguments):
    env = {k: v for k, v in os.environ.items() if not k.startswith("IOT_")}
    return subprocess.Popen(
        [sys.executable, "-c", "from iot_pipeline.cli.main import main; main()", *arguments],
        env=env | {"IOT_BOOTSTRAP_SERVERS": servers, "IOT_DATA_DIR": str(data_dir)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_backfill_ends_with_its_counts_and_a_manifest_that_agrees(wire, tmp_path):
    backfill = ("--since", "2026-01-01", "--until", "2026-01-01T00:10:00")
    process = start_iot(wire, tmp_path, "simulate", "--scenario", "rough_day", *backfill, "--json")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    answer = json.loads(out)
    assert answer["acknowledged"] == answer["produced"] > 28_000
    assert answer["start"].startswith("2026-01-01T00:00:00")
    manifest = msgspec.json.decode(Path(answer["manifest"]).read_bytes(), type=Manifest)
    assert manifest.is_complete
    assert manifest.acknowledged == answer["acknowledged"]
    assert manifest.acknowledged == sum(device.messages for device in manifest.devices)
    assert set(answer["faults"]) == {str(fault.kind) for fault in manifest.faults}


def test_ctrl_c_ends_a_live_scenario_with_the_true_count_and_its_manifest(wire, tmp_path):
    process = start_iot(wire, tmp_path, "simulate", "--scenario", "rough_day")
    folder, give_up_at = tmp_path / "manifests", time.monotonic() + 60
    # The first unfinished manifest, after ten seconds, says that it certainly sends.
    while not list(folder.glob("*.json")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < give_up_at
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    (path,) = folder.glob("*.json")
    assert out.splitlines()[-1] == f"manifest: {path}"
    manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    assert (manifest.is_stopped, manifest.is_complete) == (True, False)
    assert f"acknowledged {manifest.acknowledged:,} " in out
    assert manifest.acknowledged == sum(device.messages for device in manifest.devices) > 0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--scenario", "nope"], "or a path"),
        (["--scenario", "seed", "--devices", "3"], "--devices: the scenario's file"),
        (["--scenario", "seed", "--rate", "max", "--count", "3"], "--rate, --count"),
        (["--scenario", "seed", "--preset", "seed"], "--preset"),
        (["--scenario", "seed", "--speed", "fast"], "--speed 'fast'"),
        (["--scenario", "seed", "--since", "2026-01-01", "--speed", "2"], "leave out speed"),
        (["--scenario", "seed", "--since", "yesterday"], "yesterday"),
        (["--scenario", "seed", "--until", "2026-01-01"], "give its since too"),
        (["--speed", "60"], "give --scenario too"),
        (["--since", "2026-01-01"], "give --scenario too"),
    ],
)
def test_contradictory_options_are_named_before_anything_is_contacted(
    arguments, named, monkeypatch
):
    # Nothing listens there: contacting it would be another error, after 5 s.
    monkeypatch.setenv("IOT_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    with pytest.raises((ConfigurationError, click.UsageError), match=named):
        iot.main(["simulate", *arguments], standalone_mode=False)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--scenario", "nope"], "or a path"),
        (["--scenario", "rough_day", "--devices", "9"], "--devices"),
        (["--scenario", "rough_day", "--once"], "--once"),
    ],
)
def test_a_demo_refuses_a_fleet_that_makes_no_sense_before_it_starts_anything(
    arguments, named, monkeypatch, tmp_path
):
    monkeypatch.setenv("IOT_DATA_DIR", str(tmp_path))
    with pytest.raises(ConfigurationError, match=named):
        iot.main(["demo", *arguments], standalone_mode=False)
    assert not list(tmp_path.iterdir())


def test_the_list_of_scenarios_says_what_each_is(capsys):
    iot.main(["scenarios", "--json"], standalone_mode=False)
    rows = json.loads(capsys.readouterr().out)
    assert [row["scenario"] for row in rows] == shipped_scenarios()
    rough = next(row for row in rows if row["scenario"] == "rough_day")
    assert rough["devices"] == 50
    assert len(rough["faults"]) == 10


def test_the_example_of_the_documentation_is_a_scenario(pytestconfig):
    text = (pytestconfig.rootpath / "docs/scenarios.md").read_text("utf-8")
    example = text.split("```yaml\n")[1].split("```")[0]
    assert parse_scenario(example, "docs/scenarios.md").device_count == 6
