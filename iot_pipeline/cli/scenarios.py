from typing import Any

import click

from iot_pipeline.cli.output import json_option, print_json, print_table
from iot_pipeline.local.scenario_files import fault_kinds, load_scenario, shipped_scenarios


@click.command("scenarios")
@json_option
def scenarios_command(as_json: bool) -> None:
    """List the scenarios that are shipped; docs/scenarios.md says how to write one."""
    rows: list[dict[str, Any]] = []
    for name in shipped_scenarios():
        scenario = load_scenario(name)[1]
        rows.append(
            {
                "scenario": name,
                "description": scenario.description,
                "devices": scenario.device_count,
                "readings_per_second": round(scenario.readings_per_second, 3),
                "duration": scenario.duration,
                "speed": scenario.speed,
                "faults": fault_kinds(scenario),
            }
        )
    if as_json:
        print_json(rows)
        return
    print_table(
        ["scenario", "devices", "readings/s", "duration", "speed", "what it is", "faults"],
        [
            [
                row["scenario"],
                f"{row['devices']:,}",
                f"{row['readings_per_second']:,.6g}",
                row["duration"],
                "max" if row["speed"] == "max" else f"{row['speed']:g}",
                row["description"],
                ", ".join(row["faults"]) or "none",
            ]
            for row in rows
        ],
    )
