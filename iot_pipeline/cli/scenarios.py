"""`iot simulate --scenario` and `iot scenarios`: a fleet from a file, and what it left behind."""

import sys
from datetime import UTC, datetime
from typing import Any, Literal

import click

from iot_pipeline.cli.output import json_option, print_json, print_table, say
from iot_pipeline.cli.sending import progress
from iot_pipeline.cli.signals import Stop
from iot_pipeline.clients.kafka_producer import open_sender
from iot_pipeline.core.simulator.manifest import Manifest
from iot_pipeline.core.simulator.scenario_plan import ScenarioPlan, plan_scenario
from iot_pipeline.core.times import parse_moment
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.local.manifests import manifest_path, new_manifest_id, write_manifest
from iot_pipeline.local.scenario_files import load_scenario, shipped_scenarios
from iot_pipeline.settings import Settings
from iot_pipeline.stages.simulator.scenario import ScenarioRun


def choose_scenario(
    name_or_path: str,
    *,
    seed: int | None,
    speed: str | None,
    duration_seconds: float | None,
    start: str | None,
    since: str | None,
    until: str | None,
) -> ScenarioPlan:
    """What the options of `iot simulate --scenario` ask for.

    Raises:
        ConfigurationError: an option that cannot be read, options that contradict each other, or a
            file that is wrong.
    """
    name, scenario = load_scenario(name_or_path)
    return plan_scenario(
        scenario,
        name=name,
        now=datetime.now(UTC),
        seed=seed,
        speed=None if speed is None else _parse_speed(speed),
        duration_seconds=duration_seconds,
        start=None if start is None else parse_moment(start),
        since=None if since is None else parse_moment(since),
        until=None if until is None else parse_moment(until),
        max_value_bytes=Settings.from_env().max_value_bytes,
    )


def send_scenario(plan: ScenarioPlan, as_json: bool) -> None:
    """Send it until it is done or a signal comes; ends with the true counts and the manifest."""
    # With both drivers: who sends no scenario need not wait for them.

    settings = Settings.from_env()
    manifest_id = new_manifest_id(plan.name, datetime.now(UTC))
    run = ScenarioRun(plan, manifest_id=manifest_id, topic=settings.topic)
    stop = Stop()
    try:
        with (
            open_sender(settings) as sender,
            progress(plan.expected_messages) as tell,
            stop,
        ):
            run.send(
                sender,
                settings.reading_rules,
                should_stop=stop.is_asked,
                on_progress=tell,
                write=lambda manifest: write_manifest(settings.data_dir, manifest),
            )
    finally:
        # Also when it failed: what was acknowledged is in the topic, whatever came after.
        if run.result.produced or sys.exc_info()[0] is None:
            path = str(manifest_path(settings.data_dir, manifest_id))
            _print_result(run.manifest(), path, run.result.seconds, as_json)
    if stop.signal_number is not None:
        sys.exit(128 + stop.signal_number)


@click.command("scenarios")
@json_option
def scenarios_command(as_json: bool) -> None:
    """List the scenarios that are shipped; docs/scenarios.md says how to write one."""
    rows: list[dict[str, Any]] = []
    for name in shipped_scenarios():
        scenario = load_scenario(name)[1]
        kinds = list(dict.fromkeys(str(fault.kind) for fault in scenario.faults))
        rows.append(
            {
                "scenario": name,
                "description": scenario.description,
                "devices": scenario.device_count,
                "readings_per_second": round(scenario.readings_per_second, 3),
                "duration": scenario.duration,
                "speed": scenario.speed,
                "faults": kinds,
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


def _parse_speed(text: str) -> float | Literal["max"]:
    if text.strip().lower() == "max":
        return "max"
    try:
        return float(text)
    except ValueError:
        raise ConfigurationError(
            f"--speed {text!r}: expected max, or a number (1 is live, 60 an hour in a minute)"
        ) from None


def _print_result(manifest: Manifest, path: str, seconds: float, as_json: bool) -> None:
    kinds = manifest.count_by_kind()
    if as_json:
        print_json(
            {
                "topic": manifest.topic,
                "scenario": manifest.scenario,
                "manifest": path,
                "produced": manifest.produced,
                "acknowledged": manifest.acknowledged,
                "failed": manifest.failed,
                "unconfirmed": manifest.unconfirmed,
                "withheld": manifest.withheld,
                "seconds": round(seconds, 3),
                "rate": round(manifest.produced / seconds, 1) if seconds else 0.0,
                "devices": len(manifest.devices),
                "seed": manifest.seed,
                "start": manifest.start_at,
                "end": manifest.end_at,
                "stopped": manifest.is_stopped,
                "faults": {
                    kind: {"faults": faults, "devices": devices, "messages": messages}
                    for kind, (faults, devices, messages) in kinds.items()
                },
            }
        )
        return
    rate = manifest.produced / seconds if seconds else 0.0
    line = (
        f"{manifest.topic}: produced {manifest.produced:,}, acknowledged "
        f"{manifest.acknowledged:,} in {seconds:,.1f} s ({rate:,.1f}/s)"
    )
    if manifest.failed:
        line += f", failed {manifest.failed:,}"
    if manifest.unconfirmed:
        line += f", unconfirmed {manifest.unconfirmed:,} (these may or may not have arrived)"
    say(line)
    if kinds:
        print_table(
            ["fault", "times", "devices", "messages"],
            [[kind, *(f"{count:,}" for count in counts)] for kind, counts in kinds.items()],
        )
    say(f"manifest: {path}")
