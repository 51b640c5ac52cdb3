"""What is remembered between two drawings, in a file of the data folder.

Losing it costs nothing but counting anew; so a file that cannot be read is no error.
"""

from pathlib import Path

import msgspec

from iot_pipeline.artifacts.whole_file import whole_file
from iot_pipeline.core.fleet_day import Board


def board_path(data_dir: Path, topic: str) -> Path:
    """Where the board of a topic is kept."""
    return data_dir / "pictures" / f"{topic}.json"


def read_board(path: Path) -> Board:
    """The board, empty when there is none or when another version wrote it."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Board)
    except (FileNotFoundError, msgspec.DecodeError):
        return Board()


def write_board(path: Path, board: Board) -> None:
    """Keep the board, whole or not at all."""
    with whole_file(path) as partial:
        partial.write_bytes(msgspec.json.encode(board))
