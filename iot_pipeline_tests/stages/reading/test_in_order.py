"""Streams and exports over rows in memory: order, bounds, failures."""

from contextlib import contextmanager
from datetime import date

import pytest

from iot_pipeline.core.reading.spans import day_span
from iot_pipeline.errors import CassandraUnavailableError, SchemaMismatchError
from iot_pipeline.stages.reading.export import export_day
from iot_pipeline.stages.reading.in_order import stream_pages
from iot_pipeline_tests.stages.contracts_readings import DAY, MIDNIGHT_MS
from iot_pipeline_tests.stages.fake_rows import FakeDeviceDays, FakeSensorData


def fleet(devices, readings):
    pages = FakeSensorData()
    for number in range(devices):
        times = [MIDNIGHT_MS + at * 1000 for at in range(number, readings)]
        pages.add(f"d{number}", times)
    return pages


def keys_of(pages):
    return sorted((device, ms) for device, _, ms in pages.store.cells)


def export(pages, *arguments, **options):
    return export_day(pages, FakeDeviceDays(pages.store), *arguments, **options)


def stream(pages, **options):
    spans = [day_span(name, DAY) for name in FakeDeviceDays(pages.store).devices(DAY)]
    return stream_pages(pages, spans, **{"retry_seconds": 1.0, "page_rows": 10, **options})


@pytest.mark.parametrize("readings", [1, 9, 10, 11, 20, 35])
def test_a_stream_gives_every_row_once_in_the_order_of_devices_and_time(readings):
    pages = fleet(5, readings)
    found = [(page.device_id, row[0]) for page in stream(pages) for row in page.rows]
    assert found == keys_of(pages)


def test_a_stream_is_only_some_pages_ahead_of_its_taker():
    pages = FakeSensorData()
    for number in range(100):
        pages.add(f"d{number}", [MIDNIGHT_MS + at for at in range(25)])
    taken = 0
    for taken, _ in enumerate(stream(pages, in_flight=4), start=1):
        assert pages.asked["page"] <= taken + 4
    assert taken == 300


def test_a_page_that_failed_for_a_moment_is_asked_for_again():
    pages = fleet(3, 25)
    pages.failures = [CassandraUnavailableError("away")] * 3
    found = [(page.device_id, row[0]) for page in stream(pages) for row in page.rows]
    assert found == keys_of(pages)
    pages.failures = [CassandraUnavailableError("away")] * 10_000
    with pytest.raises(CassandraUnavailableError):
        list(stream(pages, retry_seconds=0.01))
    pages.failures = [SchemaMismatchError("no table")]
    with pytest.raises(SchemaMismatchError):
        list(stream(pages))


class NamedFile:
    """Counts rows; there is a file when the block ended well."""

    def __init__(self, path):
        self.path, self.rows = path, 0

    def write(self, page):
        self.rows += len(page.rows)


@contextmanager
def named_file(path):
    file = NamedFile(path)
    yield file
    path.write_text(str(file.rows))


def test_an_export_says_what_it_did_and_how_far_it_is(tmp_path):
    pages, seen = fleet(4, 30), []
    path = tmp_path / "day.file"
    done = export(
        pages, DAY, path, named_file, retry_seconds=1, on_progress=lambda *at: seen.append(at)
    )
    assert (done.rows, done.devices, done.path) == (len(pages.store.cells), 4, path)
    assert path.read_text() == str(done.rows)
    assert [(devices_done, devices) for devices_done, devices, _ in seen] == [
        (0, 4),
        (1, 4),
        (2, 4),
        (3, 4),
    ]
    assert seen[-1][2] == done.rows


def test_a_failed_export_leaves_what_was_there(tmp_path):
    pages, path = fleet(4, 30), tmp_path / "day.file"
    path.write_text("old")
    pages.failures = [SchemaMismatchError("no table")]
    with pytest.raises(SchemaMismatchError):
        export(pages, DAY, path, named_file, retry_seconds=1)
    assert path.read_text() == "old"


def test_a_day_without_readings_leaves_no_file(tmp_path):
    path = tmp_path / "day.file"
    path.write_text("of readings that were deleted since")
    done = export(fleet(1, 5), date(2020, 1, 1), path, named_file, retry_seconds=1)
    assert (done.rows, done.path) == (0, None)
    assert not path.exists()
