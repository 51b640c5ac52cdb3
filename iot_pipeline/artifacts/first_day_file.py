"""The first day of the rollups' partitions, kept in the data folder.

Definitions are loaded without a server, so they cannot ask for it; the sensor of the rollups, which
reads the ledgers anyway, writes it. Losing the file costs a tick.
"""

from datetime import date
from pathlib import Path

from iot_pipeline.artifacts.whole_file import whole_file


def first_day_path(data_dir: Path, topic: str) -> Path:
    """Where the first day with readings of a topic is kept."""
    return data_dir / "rollups" / f"{topic}.first_day"


def read_first_day(path: Path) -> date | None:
    """The day; None when it is not known yet."""
    try:
        return date.fromisoformat(path.read_text("ascii").strip())
    except (FileNotFoundError, ValueError):
        return None


def write_first_day(path: Path, day: date) -> None:
    """Keep the day, whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(f"{day}\n", "ascii")
