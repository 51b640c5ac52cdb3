"""When pictures are drawn again: once a minute at most, and half a second of each minute at most.

What drawing took decides how long it rests, so a busy machine, a large fleet or a cold start
make pictures rarer, never ingestion slower than that. The last drawing is remembered in a file of
the data folder; losing it costs a drawing, so a file that cannot be read is no error.
"""

from pathlib import Path

import msgspec

from iot_pipeline.artifacts.whole_file import whole_file

# Of the time that passes: half a second a minute.
_SHARE = 0.5 / 60
LEAST_REST_SECONDS = 60.0


class LastDrawing(msgspec.Struct):
    """When pictures were drawn last, by which run, and how long it took, asking included."""

    drawn_ms: int = 0
    drawn_by: str = ""
    cost_seconds: float = 0.0


def is_due(last: LastDrawing, now_ms: int) -> bool:
    """Whether pictures may be drawn now; a clock that was set back does not stop them for ever."""
    rest_ms = max(LEAST_REST_SECONDS, last.cost_seconds / _SHARE) * 1000
    return not last.drawn_ms <= now_ms < last.drawn_ms + rest_ms


def drawing_path(data_dir: Path, topic: str) -> Path:
    """Where it is kept for a topic."""
    return data_dir / "pictures" / f"{topic}.json"


def read_last_drawing(path: Path) -> LastDrawing:
    """The last drawing; of none, or what another version wrote, one long ago."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=LastDrawing)
    except (FileNotFoundError, msgspec.DecodeError):
        return LastDrawing()


def write_last_drawing(path: Path, last: LastDrawing) -> None:
    """Keep it, whole or not at all."""
    with whole_file(path) as partial:
        partial.write_bytes(msgspec.json.encode(last))
