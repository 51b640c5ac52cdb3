"""What commands say on stderr when machines read it: one JSON object a line, one schema.

`at`, `level`, `logger` and `message` are always there; `run_id`, `topic`, `partition`,
`start_offset` and `end_offset` where they are known. Sentences for people are of the logger `iot`.
"""

import json
import logging
import os
from datetime import UTC, datetime

import click

from iot_pipeline.core.times import in_utc, moment_of
from iot_pipeline.errors import ConfigurationError

FIELDS = ("run_id", "topic", "partition", "start_offset", "end_offset")
_TEXT, _JSON = "text", "json"


class _Format:
    """How this process says things on stderr, and what it is about."""

    is_json = False
    known: dict[str, object] = {}  # noqa: RUF012  # of the process, as the streams are


def choose_format() -> bool:
    """Read IOT_LOG_FORMAT, whatever else is wrong with the settings; returns whether it is JSON."""
    from iot_pipeline.settings_sources import env_file, read_env_file

    try:
        in_file = read_env_file(env_file())
    except ConfigurationError:
        in_file = {}  # the command says what is wrong with it
    chosen = {**in_file, **os.environ}.get("IOT_LOG_FORMAT", _TEXT)
    _Format.is_json, _Format.known = chosen == _JSON, {}
    return _Format.is_json


def is_json() -> bool:
    return _Format.is_json


def about(**known: object) -> None:
    """From now on every line has these of FIELDS."""
    _Format.known = {**_Format.known, **known}


def write_line(level: str, logger: str, message: str, at: datetime, **fields: object) -> None:
    line = {
        "at": in_utc(at, "milliseconds"),
        "level": level,
        "logger": logger,
        "message": message,
        **_Format.known,
        **fields,
    }
    click.echo(json.dumps(line, ensure_ascii=False), err=True)


def write_sentence(text: str, level: str = "INFO") -> None:
    write_line(level, "iot", text, datetime.now(UTC))


class JsonLines(logging.Handler):
    """Log records as lines; what they say with `extra` is a field, if it is one of FIELDS."""

    def emit(self, record: logging.LogRecord) -> None:
        fields = {name: vars(record)[name] for name in FIELDS if name in vars(record)}
        if record.exc_info:
            fields["exception"] = logging.Formatter().formatException(record.exc_info)
        at = moment_of(round(record.created * 1000))
        write_line(record.levelname, record.name, record.getMessage(), at, **fields)
