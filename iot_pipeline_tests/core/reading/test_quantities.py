"""Quantities are declared once; whatever else is about one of them asks the declaration."""

from pathlib import Path

import iot_pipeline
from iot_pipeline.core.reading.quantities import LIMITS, QUANTITIES

PACKAGE = Path(iot_pipeline.__path__[0])
# Where a quantity is declared, and what its weather and its noise are.
ABOUT_ONE = {
    "core/reading/quantities.py",
    "core/simulator/measuring.py",
    "core/simulator/scenario_fleet.py",
    "core/simulator/scenarios.py",
    "core/simulator/waves.py",
    "core/simulator/weather.py",
}


def test_no_other_module_names_a_quantity() -> None:
    words = [*(quantity.name for quantity in QUANTITIES), "celsius"]
    named = {
        f"{place}: {word}"
        for path in PACKAGE.rglob("*.py")
        if (place := str(path.relative_to(PACKAGE))) not in ABOUT_ONE
        for word in words
        if word in path.read_text().lower()
    }
    assert named == set()


def test_every_limit_of_a_quantity_has_a_setting_of_its_own() -> None:
    names = [quantity.setting_of(limit) for quantity in QUANTITIES for limit in LIMITS]
    assert len(names) == len(set(names)) == len(QUANTITIES) * len(LIMITS)
    assert QUANTITIES[1].setting_of("plausible_least") == "plausible_humidity_min"


def test_a_value_is_shown_with_its_unit() -> None:
    assert QUANTITIES[0].with_unit(21.50) == "21.5 °C"
    assert QUANTITIES[0].title == "temperature, °C"
