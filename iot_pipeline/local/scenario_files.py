"""Scenario files: the shipped ones by name, others by path."""

import json
from importlib import resources
from pathlib import Path

from iot_pipeline.core.simulator.scenario_file import parse_scenario, schema
from iot_pipeline.core.simulator.scenarios import Scenario
from iot_pipeline.errors import ConfigurationError

SCHEMA_NAME = "scenario.schema.json"


def shipped_folder() -> Path:
    """Where the scenarios of this package are, and the schema for editors."""
    return Path(str(resources.files("iot_pipeline") / "scenarios"))


def shipped_scenarios() -> list[str]:
    return sorted(path.stem for path in shipped_folder().glob("*.yaml"))


def load_scenario(name_or_path: str) -> tuple[str, Scenario]:
    """A scenario and what it is called: a shipped one's name, or a path to a YAML file.

    Raises:
        ConfigurationError: there is none, or it is wrong: `file:line: key: what is expected`.
    """
    names = shipped_scenarios()
    if name_or_path in names:
        path = shipped_folder() / f"{name_or_path}.yaml"
    else:
        path = Path(name_or_path)
        if not path.is_file():
            raise ConfigurationError(
                f"scenario {name_or_path!r}: expected {', '.join(names)}, or a path to a YAML file"
            )
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"scenario {path}: cannot be read: {exc}") from None
    source = path.name if path.parent == shipped_folder() else str(path)
    return path.stem, parse_scenario(text, source)


def fault_kinds(scenario: Scenario) -> list[str]:
    """Which kinds of faults a scenario has, each once, in its order."""
    return list(dict.fromkeys(str(fault.kind) for fault in scenario.faults))


def schema_text() -> str:
    """The JSON schema as it is shipped: `python -m iot_pipeline.local.scenario_files` writes it."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    (shipped_folder() / SCHEMA_NAME).write_text(schema_text(), "utf-8")
