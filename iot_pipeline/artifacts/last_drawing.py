"""What is remembered between two drawings, in a file of the data folder.

Losing it costs nothing but a drawing; so a file that cannot be read is no error.
"""

from pathlib import Path

import msgspec

from iot_pipeline.artifacts.whole_file import whole_file
from iot_pipeline.core.picture_budget import LastDrawing


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
