"""Pictures on ingest runs and the job health_report, on real servers."""

import base64
import re
import uuid
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from iot_pipeline.artifacts.kept import LastDrawing, last_drawing
from iot_pipeline.core.rollups.days import DayFacts
from iot_pipeline.defs.rollup_sensor import remember_first_day
from iot_pipeline.settings import Settings
from iot_pipeline_tests.defs.conftest import Dagster
from iot_pipeline_tests.load import produce, reading_json
from iot_pipeline_tests.pipeline import Pipeline, store_as_then
from iot_pipeline_tests.servers import fresh_keyspace

pytestmark = pytest.mark.services

PICTURES = ("last_day", "completeness", "lag_and_throughput", "lateness")


@pytest.fixture(scope="module")
def keyspace() -> str:
    """A fleet of its own: where others were silent in an hour, no reading of that hour was due."""
    return fresh_keyspace()


def send(pipeline: Pipeline, name: str, begin: float, count: int = 60, step: float = 10.0) -> None:
    values = [reading_json(name, begin + number * step, 20.0 + number) for number in range(count)]
    produce(pipeline.brokers, pipeline.topic, [(name.encode(), value) for value in values])


def kept(pipeline: Pipeline) -> tuple[Path, LastDrawing]:
    path = last_drawing(pipeline.settings).path
    return path, msgspec.json.decode(path.read_bytes(), type=LastDrawing)


def test_a_run_brings_pictures_and_the_next_says_where_they_are(
    pipeline: Pipeline, dagster: Dagster
) -> None:
    now = datetime.now(UTC).timestamp()
    name = f"pictured_{uuid.uuid4().hex[:8]}"
    send(pipeline, name, now - 590)
    store_as_then(pipeline, f"{name}_gone", [now - 5000 + number * 10 for number in range(60)])
    first = dagster.launch("ingest")
    assert first.is_success
    assert first.metadata is not None
    for picture in PICTURES:
        shown = first.metadata[picture]
        encoded = re.fullmatch(rf"!\[{picture}\]\(data:image/png;base64,([^)]+)\)", shown)
        assert encoded, shown[:100]
        assert base64.b64decode(encoded[1]).startswith(b"\x89PNG")
        assert len(shown) < 50_000
    assert f"| `{name}_gone` |" in first.metadata["devices_with_problems"]
    assert "no reading for 1.2 h, usually one every 10 s" in first.metadata["devices_with_problems"]
    path, last = kept(pipeline)
    assert last.drawn_by == first.run.run_id
    assert last.cost_seconds == first.metadata["pictures_seconds"] > 0

    second = dagster.launch("ingest")
    assert second.metadata is not None
    assert not set(PICTURES) & set(second.metadata)
    assert f"(/runs/{first.run.run_id})" in second.metadata["pictures"]

    last.drawn_ms -= 3_600_000
    path.write_bytes(msgspec.json.encode(last))
    third = dagster.launch("ingest")
    assert third.metadata is not None
    assert set(third.metadata) > {"last_day", "completeness"}
    assert kept(pipeline)[1].drawn_by == third.run.run_id


def test_a_run_needs_no_disk_and_says_that_it_keeps_no_picture(
    pipeline: Pipeline, dagster: Dagster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A folder that cannot be made, for any user: as on a disk that is read-only.
    (tmp_path / "file").touch()
    monkeypatch.setenv("IOT_DATA_DIR", str(tmp_path / "file" / "data"))
    send(pipeline, f"diskless_{uuid.uuid4().hex[:8]}", datetime.now(UTC).timestamp() - 590)
    run = dagster.launch("ingest")
    assert run.is_success, run.failure
    assert run.metadata is not None
    assert run.metadata["stored"] == 60
    assert not set(PICTURES) & set(run.metadata), "drawn, and no run would remember that"
    assert run.metadata["pictures"].startswith("not drawn: nothing can be kept in ")

    report = dagster.launch("health_report")
    assert "the report cannot be kept in" in report.failure
    facts = {date(2026, 1, 31): DayFacts(stored=60)}
    day, not_kept = remember_first_day(Settings.from_env(), facts, datetime.now(UTC))
    assert day == date(2026, 1, 31)
    assert not_kept.endswith("set IOT_ROLLUP_START=2026-01-31")


def test_a_file_that_cannot_be_read_is_begun_anew(pipeline: Pipeline, dagster: Dagster) -> None:
    path = last_drawing(pipeline.settings).path
    path.parent.mkdir(parents=True)
    path.write_text("{")
    send(pipeline, f"anew_{uuid.uuid4().hex[:8]}", datetime.now(UTC).timestamp() - 590)
    run = dagster.launch("ingest")
    assert run.is_success
    assert run.metadata is not None
    assert "lag_and_throughput" in run.metadata


def test_the_health_report_is_written_and_linked_with_what_is_true(
    pipeline: Pipeline, dagster: Dagster
) -> None:
    now = datetime.now(UTC).timestamp()
    name = f"reported_{uuid.uuid4().hex[:8]}"
    send(pipeline, name, now - 590)
    store_as_then(pipeline, f"{name}_gone", [now - 5000 + number * 10 for number in range(60)])
    produce(pipeline.brokers, pipeline.topic, [(b"k", b"no json")] * 7 + [(b"k", b"{}")] * 2)
    pipeline.drain()
    pipeline.iot("audit", "--all", "--json")
    result = dagster.definitions.resolve_job_def("health_report").execute_in_process(
        instance=dagster.instance, raise_on_error=False
    )
    assert result.success
    (output,) = [
        event.step_output_data.metadata
        for event in result.all_events
        if event.event_type_value == "STEP_OUTPUT"
    ]
    metadata: dict[str, Any] = {key: value.value for key, value in output.items()}
    page = Path(metadata["report"])
    assert page.parent == pipeline.settings.data_dir / "reports"
    assert metadata["link"] == page.as_uri()
    html = page.read_text()
    assert (page.parent / "latest.html").read_text() == html
    assert metadata["rejected_last_day"] == 9
    for said in (
        "60 readings are in the table, out of 69 messages",
        "9 messages of the last day could not be readings (13.04%)",
        "compared 69 messages",
        f"<code>{name}_gone</code></td><td>silent</td>",
        "<td>no reading for 1.2 h, usually one every 10 s",
        '<td>not readable as JSON</td><td class="number">7</td>',
        '<td>a field is missing</td><td class="number">2</td>',
        "Dead letters are few",
        "Row count matches ledger",
    ):
        assert said in html, said
    assert "What is to be done?" in metadata["in_words"]
    assert metadata["devices_silent"] >= 1

    told = pipeline.iot("report", "--json")
    assert told["mood"] in ("look", "bad")
    assert "dead_letters_are_few" in told["red"]
    assert Path(told["latest"]).read_text() == Path(told["path"]).read_text()
    assert len(list(page.parent.iterdir())) == 3, "two reports and the latest, nothing half written"
