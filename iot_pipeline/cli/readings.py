"""`iot readings`: stored readings of some devices, as a table, JSON, CSV, Parquet or a plot."""

import codecs
import csv
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Literal, get_args

import click

from iot_pipeline.cli.output import has_colour, print_json, print_table, say
from iot_pipeline.cli.progress import ProgressLine
from iot_pipeline.cli.ranges import EARLIEST, devices_argument
from iot_pipeline.clients.cassandra import CassandraClient
from iot_pipeline.connections import Tables
from iot_pipeline.core.fleet.series import Series, thin
from iot_pipeline.core.reading.quantities import Quantity
from iot_pipeline.core.reading.spans import Page, PlainRow, Span, day_span
from iot_pipeline.core.times import MS_PER_DAY, Window, choose_window, in_utc, moment_of
from iot_pipeline.core.words import counted, iot_command
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.files import is_stream, whole_file
from iot_pipeline.settings import Settings
from iot_pipeline.stages.reading.in_order import read_newest, stream_pages

Format = Literal["table", "json", "csv", "parquet", "plot"]
_FORMATS = get_args(Format)
_LISTED = 1000
# A device chooses its own id, and a spreadsheet runs what begins so.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "'", "＝", "＋", "－", "＠")
# 24 MB: a plot thins them anyway.
_PLOTTED = 1_000_000


@click.command("readings")
@devices_argument
@click.option("--last", metavar="DURATION", help="Not older than 30s, 15m, 1h or 2d.")
@click.option("--since", metavar="TIME", help="From this time on (ISO 8601; UTC unless it says).")
@click.option("--until", metavar="TIME", help="Before this time.")
@click.option(
    "--limit",
    type=click.IntRange(1, 1_000_000),
    help="Of table and json: this many of each device, the newest.  [default: 1000]",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(_FORMATS),
    help="csv and parquet are all readings, oldest first.  [default: table]",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Of csv and parquet: into this file instead of stdout.",
)
@click.option(
    "--save",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw a picture into this .png.",
)
def readings_command(
    device_ids: tuple[str, ...],
    last: str | None,
    since: str | None,
    until: str | None,
    limit: int | None,
    form: Format | None,
    as_json: bool,
    out: Path | None,
    save: Path | None,
) -> None:
    """Show devices' readings; without a time, those of each device's newest day up to now.

    Readings that lie ahead of now, because a clock was ahead, are said, and shown with --since.
    """
    chosen = _check(limit, form, as_json, out, save)
    window = choose_window(last, since, until, datetime.now(UTC))
    settings = Settings.from_env()
    devices = list(dict.fromkeys(device_ids))
    with CassandraClient(settings) as client:
        if chosen in ("table", "json"):
            _list(client, devices, window, limit or _LISTED, as_json=chosen == "json")
        elif chosen in ("csv", "parquet"):
            pages = _pages(client, devices, window, settings.retry_seconds)
            with _sink(out, chosen) as sink:
                rows = _write(pages, sink, chosen, settings.quantities)
            if out is not None:
                say(
                    f"{counted(rows, 'reading')} of {counted(len(devices), 'device')} in {out}",
                    err=True,
                )
        if chosen == "plot" or save is not None:
            pages = _pages(client, devices, window, settings.retry_seconds)
            quantities = settings.quantities
            series = _gather(pages, len(quantities))
            _plot(series, quantities, devices, window, save, in_terminal=chosen == "plot")


def _check(
    limit: int | None,
    form: Format | None,
    as_json: bool,
    out: Path | None,
    save: Path | None,
) -> Format | None:
    """The format; None when only a picture was asked for."""
    if as_json and form not in (None, "json"):
        raise ConfigurationError(f"--json says --format json: leave --format {form} out")
    if as_json:
        form = "json"
    if out is not None and form not in ("csv", "parquet"):
        raise ConfigurationError("--out is for --format csv or parquet; a picture is --save")
    if limit is not None and form not in (None, "table", "json"):
        raise ConfigurationError(f"--limit is for lists: --format {form} takes all of the time")
    if save is not None and save.suffix.lower() != ".png":
        raise ConfigurationError(f"--save {save}: expected a name that ends in .png")
    if form == "parquet" and out is None and sys.stdout.isatty():
        raise ConfigurationError("Parquet is not for a terminal: say --out FILE, or redirect")
    if form is None and save is None:
        return "table"
    return form


# Lists: newest first, up to a limit of each device.


def _list(
    client: CassandraClient,
    devices: Sequence[str],
    window: Window | None,
    limit: int,
    *,
    as_json: bool,
) -> None:
    tables = Tables(client)
    found = {
        name: read_newest(
            tables.rows, tables.days, name, limit + 1, window or _up_to_now(tables, name)
        )
        for name in devices
    }
    if as_json:
        documents = [
            _as_dict(name, found[name][:limit], len(found[name]) > limit, tables.quantities)
            for name in found
        ]
        print_json(documents[0] if len(documents) == 1 else {"devices": documents})
        return
    _say_silent((device_id for device_id, readings in found.items() if not readings), window)
    shown = [(name, reading) for name, readings in found.items() for reading in readings[:limit]]
    if shown:
        _print_readings(shown, [name for name in found if found[name]], tables.quantities)
    if any(len(readings) > limit for readings in found.values()):
        each = "" if len(found) == 1 else " of each"
        say(f"the newest {limit:,}{each}; there are more: --limit or --until", err=True)


def _up_to_now(tables: Tables, device_id: str) -> Window | None:
    """None, or, where readings lie ahead of now, the newest day up to now; says what lies ahead."""
    now = datetime.now(UTC)
    settings = tables.cassandra.settings
    until = now + timedelta(milliseconds=settings.quality_limits.of(device_id).ahead_ms)
    newest = read_newest(tables.rows, tables.days, device_id, 1)
    if not newest or newest[0][0] <= until.timestamp() * 1000:
        return None
    later = iot_command("readings", "--since", in_utc(now), then=(device_id,))
    say(
        f"{device_id}: readings lie ahead of now, up to {in_utc(moment_of(newest[0][0]))}: its "
        f"clock was ahead, or is. `{later}` shows them; here are those up to now",
        err=True,
    )
    past = Window(EARLIEST, until)
    found = read_newest(tables.rows, tables.days, device_id, 1, past)
    if not found:
        return past
    return Window(moment_of(found[0][0] // MS_PER_DAY * MS_PER_DAY), until)


def _fields(quantities: Sequence[Quantity]) -> tuple[str, ...]:
    return ("timestamp", *(quantity.name for quantity in quantities))


def _as_dict(
    device_id: str, readings: Sequence[PlainRow], is_cut: bool, quantities: Sequence[Quantity]
) -> dict[str, object]:
    names = _fields(quantities)
    return {
        "device_id": device_id,
        "readings": [
            dict(zip(names, (moment_of(ms), *values), strict=True)) for ms, *values in readings
        ],
        "is_cut": is_cut,
    }


def _print_readings(
    shown: list[tuple[str, PlainRow]], devices: list[str], quantities: Sequence[Quantity]
) -> None:
    columns = ["timestamp", *(quantity.heading for quantity in quantities)]
    is_one = len(devices) == 1
    print_table(
        columns if is_one else ["device", *columns],
        [
            (
                *([] if is_one else [name]),
                in_utc(moment_of(ms), "milliseconds"),
                *values,
            )
            for name, (ms, *values) in shown
        ],
        title=devices[0] if is_one else "",
    )


def _say_silent(devices: Iterable[str], window: Window | None, *, err: bool = False) -> None:
    for device_id in devices:
        say(f"no readings of {device_id}{'' if window is None else ' in that time'}", err=err)


# Streams: all of the time, oldest first.


def _pages(
    client: CassandraClient, devices: Sequence[str], window: Window | None, retry_seconds: float
) -> Iterator[Page]:
    tables = Tables(client)

    def spans() -> Iterator[Span]:
        for device_id in devices:
            chosen = window or _up_to_now(tables, device_id)
            days = tables.days.days_of(device_id, chosen)
            if chosen is None:
                newest = next(days, None)
                days = iter([] if newest is None else [newest])
            for day in sorted(days):
                yield day_span(device_id, day, chosen)

    return stream_pages(tables.rows, spans(), retry_seconds=retry_seconds)


@contextmanager
def _sink(out: Path | None, form: str) -> Iterator[IO[bytes]]:
    """The file, under its name when it is whole; or stdout, which may close before us."""
    if out is None:
        try:
            yield sys.stdout.buffer
            sys.stdout.flush()
        except BrokenPipeError:
            # `| head` has seen enough. Python would complain once more when it flushes at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    if is_stream(out):
        with out.open("wb") as stream:
            yield stream
        return
    with whole_file(out) as partial, partial.open("wb") as file:
        yield file


def _write(
    pages: Iterator[Page], sink: IO[bytes], form: Format, quantities: Sequence[Quantity]
) -> int:
    """Write all pages; how many readings they had."""
    rows = 0
    opened = _csv_readings if form == "csv" else _parquet_readings
    with opened(sink, quantities) as write:
        for page in pages:
            write(page)
            rows += len(page.rows)
    return rows


@contextmanager
def _csv_readings(
    sink: IO[bytes], quantities: Sequence[Quantity]
) -> Iterator[Callable[[Page], None]]:
    writer = csv.writer(codecs.getwriter("utf-8")(sink), lineterminator="\n")
    writer.writerow(("device_id", *_fields(quantities)))

    def write(page: Page) -> None:
        writer.writerows(
            (
                _as_text(page.device_id),
                in_utc(moment_of(ms), "milliseconds"),
                *map(_as_cell, values),
            )
            for ms, *values in page.rows
        )

    yield write


def _as_cell(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    return _as_text(value) if isinstance(value, str) else value


def _as_text(sent: str) -> str:
    """A device's id or text, such that no spreadsheet takes it for a formula: with a quote then."""
    return f"'{sent}" if sent.startswith(_FORMULA_STARTS) else sent


@contextmanager
def _parquet_readings(
    sink: IO[bytes], quantities: Sequence[Quantity]
) -> Iterator[Callable[[Page], None]]:
    from iot_pipeline.artifacts.parquet import parquet_readings

    with parquet_readings(sink, quantities) as readings:
        yield readings.write


# Pictures.


def _gather(pages: Iterator[Page], quantities: int) -> list[Series]:
    series: dict[str, Series] = {}
    rows = 0
    with ProgressLine("reading, rows") as line:
        for page in pages:
            rows += len(page.rows)
            if rows > _PLOTTED:
                raise ConfigurationError(
                    f"more than {_PLOTTED:,} readings to plot: ask for fewer devices or less time"
                )
            known = series.setdefault(page.device_id, Series.of(page.device_id, quantities))
            known.extend(page.rows)
            line.show(rows)
    return [thin(item) for item in series.values()]


def _plot(
    series: list[Series],
    quantities: Sequence[Quantity],
    devices: Sequence[str],
    window: Window | None,
    save: Path | None,
    *,
    in_terminal: bool,
) -> None:
    drawn = {item.device_id for item in series}
    _say_silent((device_id for device_id in devices if device_id not in drawn), window, err=True)
    if not series:
        return
    if in_terminal:
        from iot_pipeline.artifacts.terminal import plot_readings

        click.echo(plot_readings(series, quantities, is_colored=has_colour(sys.stdout)))
    if save is not None:
        from iot_pipeline.artifacts.readings_picture import draw_readings

        picture = draw_readings(series, quantities)
        with whole_file(save) as partial:
            partial.write_bytes(picture)
        say(f"drawn into {save}", err=True)
