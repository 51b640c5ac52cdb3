"""The rooms of the fleet and of the checks know quantities by their declaration alone."""

from pathlib import Path

import iot_pipeline
from iot_pipeline.core.reading.quantities import QUANTITIES

PACKAGE = Path(iot_pipeline.__path__[0])
ROOMS = ("core/fleet", "core/checks", "stages/fleet", "stages/checks")
# What tables and topics look like: columns are named there, as in the .cql.
COLUMNS = {PACKAGE / "core/checks/schema.py"}


def test_no_quantity_is_named_where_devices_are_judged() -> None:
    words = [*(quantity.name for quantity in QUANTITIES), "celsius"]
    named = {
        f"{path.relative_to(PACKAGE)}: {word}"
        for room in ROOMS
        for path in set((PACKAGE / room).glob("*.py")) - COLUMNS
        for word in words
        if word in path.read_text().lower()
    }
    assert named == set()
