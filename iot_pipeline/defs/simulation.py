"""The job that sends a simulated fleet's readings to the topic.

What was asked for is checked when the run is launched: nonsense never becomes a run.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Self

import dagster as dg
from pydantic import Field, model_validator

from iot_pipeline.clients.kafka_producer import open_sender
from iot_pipeline.core.checks.device_table import as_code
from iot_pipeline.core.reading.messages import ReadingRules
from iot_pipeline.core.simulator.manifest import FaultTruth, Manifest
from iot_pipeline.core.simulator.plan import (
    MAX_COUNT,
    MAX_DEVICES,
    MAX_RATE,
    SimulationPlan,
    plan_fleet,
    plan_scenario,
)
from iot_pipeline.core.simulator.scenarios import DEFAULT_SEED
from iot_pipeline.core.times import parse_moment
from iot_pipeline.defs.launchpad import Asked, job_of
from iot_pipeline.defs.names import SIMULATION
from iot_pipeline.defs.pipeline import Pipeline
from iot_pipeline.defs.resources import NowAndThen, failing_with_advice
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.local.manifests import manifest_path, new_manifest_id, write_manifest
from iot_pipeline.local.scenario_files import load_scenario, shipped_scenarios
from iot_pipeline.settings import Settings
from iot_pipeline.stages.simulator.simulation import Simulation, SimulationResult

MAX_SECONDS = 86_400
PLAIN = "plain"
PLAIN_SECONDS = 60.0
_FAULTS_SHOWN = 100


class SimulateConfig(Asked):
    """A fleet of devices that send in turn, for a time or a number of messages; or a scenario."""

    scenario: str = Field(
        default=PLAIN,
        description=(
            f"{PLAIN}: devices that are well, as devices, rate and messages say. Or a fleet from a "
            f"file, which says that itself: {', '.join(shipped_scenarios())}, or the path of your "
            "own YAML (docs/scenarios.md)."
        ),
    )
    speed: float | None = Field(None, gt=0, le=100_000)
    """Of a scenario: 1 is live, 60 an hour in a minute. Empty: its file says."""
    since: str | None = None
    """Of a scenario: backfill from this time (ISO 8601) on, as fast as possible."""
    until: str | None = None
    """With since: to this time, exclusive. Empty: now."""
    devices: int = Field(
        default=50,
        ge=1,
        le=MAX_DEVICES,
        description=f"How many devices send, 1 to {MAX_DEVICES:,}.",
    )
    rate: float = Field(
        default=50.0,
        ge=0.001,
        le=MAX_RATE,
        description=f"Messages a second of the whole fleet, 0.001 to {MAX_RATE:,.0f}.",
    )
    as_fast_as_possible: bool = False
    """Send without a pause, and ignore rate."""
    seconds: float | None = Field(
        default=None,
        gt=0,
        le=366 * 86_400,
        description=(
            f"How long to send, up to {MAX_SECONDS:,} seconds; of a scenario, event time. Empty: "
            f"{PLAIN_SECONDS:g}, or what the scenario says. Terminate ends it sooner."
        ),
    )
    messages: int | None = Field(None, ge=1, le=MAX_COUNT)
    """Send this many messages instead of for a time; it may take a day at most."""
    seed: int | None = Field(
        default=None,
        description=(
            f"Same seed and same start, same readings. Empty: {DEFAULT_SEED}, or the scenario's."
        ),
    )
    start: str | None = None
    """Event time of the first reading, such as 2026-01-31T00:00:00+00:00, to backfill; empty:
    now."""
    interval_seconds: float | None = Field(None, gt=0)
    """With start: event time between two readings of one device, in seconds."""

    @model_validator(mode="after")
    def _together(self) -> Self:
        self.plan(ReadingRules())
        return self

    def plan(self, rules: ReadingRules) -> SimulationPlan:
        """What this asks for; by `rules` a message can be too large.

        Raises:
            ConfigurationError: no such scenario, a wrong file, or fields that are fine alone and
                make no sense together.
        """
        return self._fleet_plan() if self.scenario == PLAIN else self._scenario_plan(rules)

    def _scenario_plan(self, rules: ReadingRules) -> SimulationPlan:
        ignored = [
            name
            for name in ("devices", "rate", "messages", "interval_seconds")
            if getattr(self, name) != type(self).model_fields[name].default
        ]
        if ignored:
            raise ConfigurationError(
                f"{', '.join(ignored)}: the scenario's file says that; leave out, or set scenario "
                f"to {PLAIN}"
            )
        if self.as_fast_as_possible and self.speed is not None:
            raise ConfigurationError("as_fast_as_possible and speed contradict: give one of them")
        name, scenario = load_scenario(self.scenario)
        plan = plan_scenario(
            scenario,
            name=name,
            now=datetime.now(UTC),
            seed=self.seed,
            speed="max" if self.as_fast_as_possible else self.speed,
            duration_seconds=self.seconds,
            start=None if self.start is None else parse_moment(self.start),
            since=None if self.since is None else parse_moment(self.since),
            until=None if self.until is None else parse_moment(self.until),
            max_value_bytes=rules.max_value_bytes,
        )
        takes = float(plan.sending_seconds)
        if takes > MAX_SECONDS:
            raise ConfigurationError(
                f"seconds: {takes:,.0f} s of sending, at most {MAX_SECONDS:,}: a higher speed"
            )
        return plan

    def _fleet_plan(self) -> SimulationPlan:
        given = [name for name in ("speed", "since", "until") if getattr(self, name) is not None]
        if given:
            raise ConfigurationError(
                f"{', '.join(given)}: of a scenario; a plain fleet has rate, and start for a "
                "backfill"
            )
        seconds = PLAIN_SECONDS if self.seconds is None else self.seconds
        if seconds > MAX_SECONDS:
            raise ConfigurationError(f"seconds {seconds:g}: expected at most {MAX_SECONDS:,}")
        return plan_fleet(
            devices=self.devices,
            rate="max" if self.as_fast_as_possible else self.rate,
            count=self.messages,
            duration_seconds=seconds if self.messages is None else None,
            seed=DEFAULT_SEED if self.seed is None else self.seed,
            start=None if self.start is None else parse_moment(self.start),
            interval_seconds=self.interval_seconds,
        )


def build_simulate(pipeline: Pipeline) -> dg.JobDefinition:
    @dg.op(
        name=pipeline.called("send_readings"),
        description="Send the readings of a simulated fleet to the topic, paced and confirmed.",
    )
    def send_readings(context: dg.OpExecutionContext, config: SimulateConfig) -> None:
        _send(context, config, pipeline.settings())

    return job_of(
        pipeline,
        send_readings,
        name="simulate",
        config=SimulateConfig,
        description=(
            "Send the readings of a simulated fleet to the topic, plain or with the faults of a "
            "scenario. The log shows how far it is; Terminate ends it within a second, with the "
            "true count; a scenario leaves a manifest of what was sent."
        ),
        max_seconds=MAX_SECONDS + 600,
        slot=SIMULATION,
    )


def _send(context: dg.OpExecutionContext, config: SimulateConfig, settings: Settings) -> None:
    """Ends with the true count, also when it is terminated."""
    say = NowAndThen(context)

    def tell(so_far: SimulationResult) -> None:
        say(f"{so_far.acknowledged:,} messages acknowledged, {so_far.rate:,.0f} a second")

    with failing_with_advice(), open_sender(settings) as sender:
        rules = settings.reading_rules
        if rules.declaration.format.is_framed:
            # Here, because plain messages need no HTTP client.
            from iot_pipeline.clients.registry import SchemaRegistry
            from iot_pipeline.stages.simulator.writing import learn_to_write

            learn_to_write(rules, SchemaRegistry(settings), settings.topic)
        plan, manifest_id = config.plan(rules), None
        if config.scenario != PLAIN:
            manifest_id = new_manifest_id(settings.data_dir, plan.name, datetime.now(UTC))
        simulation = Simulation(
            plan,
            sender,
            rules,
            topic=settings.topic,
            manifest_id=manifest_id,
            run_id=context.run_id,
            on_progress=tell,
            write=partial(write_manifest, settings.data_dir),
        )
        result, is_complete = simulation.result, False
        try:
            simulation.send()
            is_complete = True
        finally:
            # Also when it was terminated or failed: what was acknowledged is in the topic.
            context.log.info(
                "%s: %s messages acknowledged, %s failed, %s unconfirmed, in %.1f s (%s a second)",
                "done" if is_complete else "ended before its time",
                f"{result.acknowledged:,}",
                result.failed,
                result.unconfirmed,
                result.seconds,
                f"{result.rate:,.0f}",
            )
            if simulation.manifest_id is not None:
                where = manifest_path(settings.data_dir, simulation.manifest_id)
                context.log.info("manifest: %s", where)
    numbers: dict[str, Any] = {
        "acknowledged": result.acknowledged,
        "devices": plan.scenario.device_count,
        "seconds": round(result.seconds, 3),
        "messages_per_second": round(result.rate, 1),
    }
    if simulation.manifest_id is not None:
        numbers |= manifest_metadata(simulation.manifest(), settings.data_dir)
    context.add_output_metadata(numbers)


def manifest_metadata(manifest: Manifest, data_dir: Path) -> Mapping[str, Any]:
    """What was really sent, for the page of a run."""
    kinds = manifest.count_by_kind()
    end = "%H:%M:%S" if manifest.start_at.date() == manifest.end_at.date() else "%d %b %H:%M:%S"
    metadata: dict[str, Any] = {
        "scenario": manifest.scenario,
        "devices": len(manifest.devices),
        "withheld": manifest.withheld,
        "faults": len(manifest.faults) + manifest.faults_left_out,
        "manifest": dg.MetadataValue.path(manifest_path(data_dir, manifest.manifest_id)),
        "event_times": f"{manifest.start_at:%d %b %Y %H:%M:%S} to {manifest.end_at:{end}} UTC",
    }
    if kinds:
        metadata["faults_by_kind"] = dg.MetadataValue.md(
            "| fault | times | devices | messages or readings withheld |\n|---|---:|---:|---:|\n"
            + "".join(
                f"| {kind} | {times:,} | {devices:,} | {messages:,} |\n"
                for kind, (times, devices, messages) in kinds.items()
            )
        )
        metadata["injected_faults"] = dg.MetadataValue.md(_table(manifest.faults))
    return metadata


def _table(faults: list[FaultTruth]) -> str:
    # The longest first: those are what the checks are about, single readings are not.
    longest = sorted(faults, key=lambda f: (-(f.messages + f.withheld), f.first_at))
    lines = [
        "| fault | device | from (UTC) | to | messages | off by | offsets |",
        "|---|---|---|---|---:|---:|---|",
    ]
    for fault in longest[:_FAULTS_SHOWN]:
        count = fault.messages or f"{fault.withheld} withheld"
        what = fault.reason or ("" if fault.amount is None else f"{fault.amount:g} {fault.unit}")
        lines.append(
            f"| {fault.kind} | {as_code(fault.device_id)} | {fault.first_at:%d %b %H:%M:%S} "
            f"| {fault.last_at:%H:%M:%S} | {count} | {what} | {_offsets(fault)} |"
        )
    if len(faults) > _FAULTS_SHOWN:
        lines.append(f"\n{len(faults) - _FAULTS_SHOWN:,} more are in the manifest's file.")
    return "\n".join(lines)


def _offsets(fault: FaultTruth) -> str:
    parts = []
    for partition, ranges in sorted(fault.offsets.items()):
        first, last = ranges[0][0], ranges[-1][1]
        parts.append(f"{partition}:{first}" if first == last else f"{partition}:{first}…{last}")
    return ", ".join(parts)
