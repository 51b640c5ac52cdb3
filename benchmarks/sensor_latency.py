"""From topic to row with the sensor on: `python -m benchmarks.sensor_latency`.

Starts servers of its own and `dagster dev` with the sensor running, once per mode, and sends one
probe after another, each when nothing else is under way: what a person waits who sends a reading
and looks for its row. A probe's time is from just before it is sent to the answer that holds it.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from confluent_kafka import Producer

from iot_pipeline.clients.kafka import client_config
from iot_pipeline.connections import Connections, open_connections
from iot_pipeline.core.times import MS_PER_DAY
from iot_pipeline.local.dagster_ui import DagsterUi, find_free_port
from iot_pipeline.local.processes import Child
from iot_pipeline.settings import Settings
from iot_pipeline_tests.servers import clean_environment, start_services

SENSOR = "iot_data_lag"
_GIVE_UP_SECONDS = 60.0
_ROOT = Path(__file__).parents[1]


def main() -> None:
    """Measure both modes, and print p50 and worst."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--probes", type=int, default=20, help="per mode")
    parser.add_argument("--modes", default="drain,follow")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    chosen = parser.parse_args()
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="iot-sensor-latency-") as folder:
        services = start_services(Path(folder) / "services")
        try:
            for mode in chosen.modes.split(","):
                env = services.environment(
                    IOT_DATA_DIR=str(Path(folder) / mode), IOT_INGEST_MODE=mode
                )
                found[mode] = measure(env, Path(folder) / mode, chosen.probes)
                print(_line(mode, found[mode]), flush=True)
        finally:
            services.stop()
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=2))


def measure(env: dict[str, str], folder: Path, probes: int) -> list[float]:
    """Seconds per probe, with a `dagster dev` that ends with it."""
    settings = Settings.from_env(env)
    home = folder / "dagster"
    whole = {**clean_environment(env), "DAGSTER_HOME": str(home)}
    with open_connections(settings) as connections:
        connections.set_up()
        subprocess.run(
            [sys.executable, "-m", "iot_pipeline.defs.instance", str(home)],
            env=whole,
            check=True,
            capture_output=True,
        )
        port = find_free_port(3000)
        command = [str(Path(sys.executable).parent / "dagster"), "dev", "-p", str(port)]
        command += ["-h", "127.0.0.1", "-w", str(_ROOT / "workspace.yaml")]
        child = Child(command, folder / "dagster.log", whole)
        try:
            ui = DagsterUi(port, "iot_pipeline")
            ui.wait(child)
            ui.start("Sensor", SENSOR)
            # The first one finds everything cold, and in follow mode waits for the first run.
            _probe(connections)
            return [_probe(connections) for _ in range(probes)]
        finally:
            child.stop()


def _probe(connections: Connections) -> float:
    settings = connections.settings
    # So that probes hit every phase of the sensor's five seconds.
    time.sleep(random.uniform(0, 5))
    now_ms = int(time.time() * 1000)
    device_id = f"probe_{now_ms}"
    reading = {"device_id": device_id, "timestamp": now_ms / 1000, "temperature": 20.0}
    producer = Producer({**client_config(settings), "linger.ms": 0})
    sent_at = time.monotonic()
    producer.produce(settings.topic, json.dumps({**reading, "humidity": 50.0}), device_id)
    if producer.flush(10):
        raise SystemExit("Kafka took no probe in ten seconds")
    while time.monotonic() - sent_at < _GIVE_UP_SECONDS:
        answer = connections.rows.start_times(device_id, now_ms // MS_PER_DAY, [now_ms])
        while not answer.done:
            connections.rows.wait(0.05)
        if answer.error is None and answer.found:
            return time.monotonic() - sent_at
        time.sleep(0.005)
    raise SystemExit(f"{device_id} made no row in {_GIVE_UP_SECONDS:g} s")


def _line(mode: str, seconds: list[float]) -> str:
    return (
        f"{mode:7} {len(seconds)} probes: p50 {statistics.median(seconds):.3f} s, "
        f"worst {max(seconds):.3f} s"
    )


if __name__ == "__main__":
    os.chdir(_ROOT)
    main()
