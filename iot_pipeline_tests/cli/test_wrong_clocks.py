"""What a person sees of devices whose clocks are years off."""

import time
from pathlib import Path

import pytest

from iot_pipeline_tests.load import produce, reading_json
from iot_pipeline_tests.pipeline import Pipeline

pytestmark = pytest.mark.services


def send(pipeline: Pipeline, device: str, times: list[float], warm: float = 20.0) -> None:
    messages = [
        (device.encode(), reading_json(device, at, warm + n % 7 / 10)) for n, at in enumerate(times)
    ]
    produce(pipeline.brokers, pipeline.topic, messages, partition=0)
    pipeline.drain()


def test_devices_are_listed_without_what_runs_keep_of_them(pipeline: Pipeline) -> None:
    now = time.time()
    send(pipeline, "rtc_1", [946_684_800 + 10.0 * n for n in range(20)])
    send(pipeline, "gps_1", [now - 200 - 619_315_200 + 10.0 * n for n in range(20)])
    found = pipeline.iot("devices", "--json")["devices"]
    seen = {one["device_id"]: one["problems"][0]["seen"] for one in found if one["problems"]}
    assert "it was reset to 2000-01-01" in seen["rtc_1"]
    assert "1,024 weeks" in seen["gps_1"]


def test_the_newest_readings_are_those_up_to_now_and_what_lies_ahead_is_said(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    now = round(time.time(), 3)
    send(pipeline, "esp_1", [2_085_978_496.0])
    send(pipeline, "esp_1", [now - 100 + n for n in range(10)])
    newest = pipeline.iot("readings", "esp_1", "--limit", "1")
    assert "readings lie ahead of now, up to 2036-02-07T06:28:16Z" in newest
    assert "2036-02-07T06:28:16.000Z" not in newest
    out = tmp_path / "readings.csv"
    pipeline.iot("readings", "esp_1", "--format", "csv", "--out", str(out))
    assert len(out.read_text().splitlines()) == 1 + 10
    ahead = pipeline.iot("readings", "esp_1", "--json", "--since", "2036-01-01")
    assert len(ahead["readings"]) == 1
    send(pipeline, "esp_2", [2_085_978_496.0])
    assert "no readings of esp_2\nesp_2: readings lie ahead" in pipeline.iot("readings", "esp_2")
