"""The rollup assets: one pass over a day's rows makes both, a run makes any number of days.

Each day is materialized as soon as it is done, so a backfill that is terminated keeps what it
has. Who asks for rebuilds is `defs.rollup_sensor`, or a person: Materialize with a range of days.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import dagster as dg

from iot_pipeline.artifacts import kept
from iot_pipeline.connections import Connections
from iot_pipeline.core.reading.quantities import Quantity
from iot_pipeline.core.rollups.day_view import DayView
from iot_pipeline.core.rollups.statistics import statistics_of
from iot_pipeline.core.times import in_words
from iot_pipeline.core.words import counted, plain
from iot_pipeline.defs.alive import name_process, signs_of_life
from iot_pipeline.defs.external import table_metadata
from iot_pipeline.defs.launchpad import EXECUTOR
from iot_pipeline.defs.names import LANE, MAX_RUNTIME, NO_RETRY
from iot_pipeline.defs.pictures import Metadata, day_picture, days_picture
from iot_pipeline.defs.pipeline import Pipeline
from iot_pipeline.defs.resources import NowAndThen, connected
from iot_pipeline.defs.verdicts import SEVERITIES
from iot_pipeline.errors import ConfigurationError, PipelineError, RollupFrozenError
from iot_pipeline.settings import Settings
from iot_pipeline.stages.checks.machinery.check import DAILY, HOURLY
from iot_pipeline.stages.checks.machinery.facts import Facts, RunBudget
from iot_pipeline.stages.checks.machinery.registry import checks_of, look_at
from iot_pipeline.stages.rollups.comparison import Comparisons, compare_days
from iot_pipeline.stages.rollups.rebuild import RollupProgress, rebuild_day

OP_NAME = "rebuild_rollups"
JOB_NAME = "rollups"
# What the UI's single-run backfills carry: the first and last day, both inclusive.
RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
_ONE_DAY = "dagster/partition"
Events = Iterator[dg.AssetMaterialization | dg.AssetCheckResult]
# A run that ends at its own tenth would wait that long for a commit; within this it comes.
_RUN_PATIENCE_SECONDS = 1.5


def rollup_lane(pipeline: Pipeline) -> str:
    """Rollups of a topic wait for each other, never for its ingestion."""
    return f"{pipeline.lane}/rollups"


def first_rollup_day(settings: Settings) -> date:
    """Where the partitions begin: as IOT_ROLLUP_START says, else with the first reading.

    That day is in a file which the sensor writes. Today, as long as there are no readings.
    """
    if settings.rollup_start is not None:
        return settings.rollup_start
    return kept.first_day(settings).read() or datetime.now(UTC).date()


def _columns(
    quantities: Sequence[Quantity], time_column: str, cql_type: str, what: str
) -> dg.TableSchema:
    key = dg.TableColumnConstraints(nullable=False)
    columns = [
        dg.TableColumn("device_id", "text", description="Who measured.", constraints=key),
        dg.TableColumn(
            "month",
            "date",
            description="First day of the month: with device_id the partition key, ask by both.",
            constraints=key,
        ),
        dg.TableColumn(
            time_column, cql_type, description=f"{what}; newest first.", constraints=key
        ),
        dg.TableColumn("count", "bigint", description="Readings; 1 or more."),
        dg.TableColumn("first_at", "timestamp", description="Time of the first reading."),
        dg.TableColumn("last_at", "timestamp", description="Time of the last reading."),
    ]
    for quantity in quantities:
        words = f"Readings that have a {quantity.name}."
        columns.append(dg.TableColumn(f"{quantity.name}_count", "bigint", description=words))
        columns += [
            dg.TableColumn(
                f"{quantity.name}_{statistic.name}",
                "double" if quantity.is_number else quantity.type,
                description=f"{quantity.unit or quantity.name}, {statistic.meaning}.",
            )
            for statistic in statistics_of(quantity)
        ]
    return dg.TableSchema(columns=columns)


def _spec(
    pipeline: Pipeline, key: dg.AssetKey, by: str, schema: dg.TableSchema, example: str
) -> dg.AssetSpec:
    return dg.AssetSpec(
        key,
        deps=[pipeline.sensor_data],
        group_name=pipeline.group,
        kinds={"cassandra", "python"},
        owners=pipeline.settings().owners,
        skippable=True,  # days are materialized one by one, as they are done
        description=(
            f"Readings by {by} and device: count, least, mean, greatest, first, last and standard "
            f"deviation of each quantity, in Cassandra's table `{key.path[-1]}`.\n\n"
            f"`{example}`\n\n"
            "Recomputed from the rows, a whole UTC day at a time, always with its twin: hours and "
            f"days are made in one pass. The sensor `{pipeline.called('rollups_of_touched_days')}` "
            "rebuilds the days that late data, replays or deletions touched. With "
            "IOT_RETENTION_DAYS set, a day whose rows begin to age out is frozen: its rollups "
            "stay.\n\n"
            "Pictures: under Events, in the newest materialization, [Show Markdown] beside "
            "`day_by_the_hour` and `days`."
        ),
        metadata=table_metadata(pipeline, key.path[-1], schema),
    )


def _keys(pipeline: Pipeline) -> dict[str, dg.AssetKey]:
    return {HOURLY: pipeline.hourly_readings, DAILY: pipeline.daily_readings}


def build_rollups(
    pipeline: Pipeline, first_day: date
) -> tuple[dg.AssetsDefinition, dg.JobDefinition]:
    """Both assets, partitioned by day from `first_day` to today, and the job that rebuilds them."""
    keys, quantities = _keys(pipeline), pipeline.settings().quantities

    @dg.multi_asset(
        name=pipeline.called(OP_NAME),
        specs=[
            _spec(
                pipeline,
                keys[HOURLY],
                "hour",
                _columns(quantities, "hour", "timestamp", "First instant of the hour, UTC"),
                "iot rollups device_2 --hourly --day 2026-01-31",
            ),
            _spec(
                pipeline,
                keys[DAILY],
                "day",
                _columns(quantities, "day", "date", "The UTC day"),
                "iot rollups device_2 --since 2026-01-01",
            ),
        ],
        check_specs=[
            dg.AssetCheckSpec(check.name, asset=key, description=plain(check.question))
            for asset, key in keys.items()
            for check in checks_of(asset)
        ],
        can_subset=True,  # so that checks run without the assets, from the Checks tab
        required_resource_keys=pipeline.resource_keys,
        partitions_def=dg.DailyPartitionsDefinition(start_date=first_day.isoformat(), end_offset=1),
        backfill_policy=dg.BackfillPolicy.single_run(),
        description="Read the rows of days once; write the rollups of each device and hour.",
    )
    def rollups(context: dg.AssetExecutionContext) -> Events:
        """Rebuild when an asset was asked for, then check; else only check."""
        run_id, lane = context.run.run_id, rollup_lane(pipeline)
        is_at_work, every = bool(context.selected_asset_keys), pipeline.settings().sign_seconds
        signs = signs_of_life(context.instance, run_id, lane, every)
        with signs if is_at_work else nullcontext():
            # Else the sensor takes a run of more than two minutes for dead.
            name_process(context.instance, run_id)
            with connected(context, pipeline) as connections:
                yield from RollupRun(context, pipeline, connections).events()

    job = dg.define_asset_job(
        pipeline.called(JOB_NAME),
        selection=dg.AssetSelection.assets(*keys.values()),
        description=(
            "Make the hourly and daily rollups of one day, or of a range of days in a single run, "
            "what the rows of these days say. Idempotent; safe beside ingestion; Terminate keeps "
            "the days that are done."
        ),
        tags={
            LANE: rollup_lane(pipeline),
            MAX_RUNTIME: "14400",
            **NO_RETRY,
            **pipeline.tags,
        },
        executor_def=EXECUTOR,
    )
    return rollups, job  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class RollupRun:
    """One run over its days, oldest first; `connections` are open."""

    context: dg.AssetExecutionContext
    pipeline: Pipeline
    connections: Connections

    def events(self) -> Events:
        """Rebuild each day and materialize it, then compare; without assets only compare."""
        keys = self.context.selected_asset_keys
        if not keys:
            yield from self._check(None)
            return
        began = time.monotonic()
        days = _days_of(self.context.run)
        done: list[RollupProgress] = []
        frozen: list[date] = []
        view, say = DayView(days[-1]), NowAndThen(self.context)
        for number, day in enumerate(days, start=1):
            try:
                progress = self._rebuild(day, f"{day} ({number} of {len(days)})", view, say)
            except RollupFrozenError as exc:
                # In a range the days that are not frozen are still wanted.
                if len(days) == 1:
                    raise
                frozen.append(day)
                self.context.log.warning("%s", exc)
                continue
            done.append(progress)
            if progress.warning:
                self.context.log.error("%s", progress.warning)
            # One picture a run: of a year of days no person looks at each. The same on both assets,
            # so that it does not matter which page a person opens.
            pictures: Metadata = {}
            if day == view.day:
                pictures = {
                    **day_picture(view, self.connections.quantities),
                    **self._days_picture(),
                }
            for key in sorted(keys):
                yield _materialization(
                    key, progress, pictures, is_hourly=key == self.pipeline.hourly_readings
                )
        seconds = time.monotonic() - began
        rows = sum(progress.readings for progress in done)
        self.context.log.info(
            f"{len(done)} of {len(days)} days rolled up"
            f"{f', {len(frozen)} are frozen' if frozen else ''}: {counted(rows, 'reading')} in "
            f"{seconds:.1f} s, {rows / seconds if seconds else 0:,.0f}/s"
        )
        yield from self._check(self._compare(done, seconds))
        if frozen and not done:
            raise RollupFrozenError(
                f"rebuilding the rollups of {frozen[0]} to {frozen[-1]}: rows of each of these "
                "days age out (IOT_RETENTION_DAYS), so their rollups stay as they are"
            )

    def _rebuild(self, day: date, place: str, view: DayView, say: NowAndThen) -> RollupProgress:
        settings = self.connections.settings

        def tell(progress: RollupProgress) -> None:
            seconds = progress.eta_seconds
            left = "" if seconds is None else f", about {in_words(seconds)} left of this day"
            say(
                f"{place}: {progress.devices_done:,} of {progress.devices:,} devices, "
                f"{progress.readings:,} rows, {progress.rows_per_second:,.0f}/s{left}"
            )

        return rebuild_day(
            self.connections.rollup_ports,
            settings.topic,
            day,
            self.context.run.run_id,
            retry_seconds=settings.retry_seconds,
            retention=settings.retention,
            on_progress=tell,
            observe=view.add if day == view.day else lambda _: None,
        )

    def _days_picture(self) -> Metadata:
        # The day is rolled up: what is asked from here on must not fail the run.
        settings = self.connections.settings
        try:
            return days_picture(self.connections.rollups.read_records(settings.topic).values())
        except PipelineError as exc:
            return {"days": dg.MetadataValue.text(f"not drawn: {exc}")}

    def _compare(
        self, done: Sequence[RollupProgress], seconds: float
    ) -> Comparisons | PipelineError:
        """The days of this run, as many devices of them as a quarter of a tenth of it allows.

        The error where that could not be looked at: the days are rolled up all the same.
        """
        settings = self.connections.settings
        try:
            return compare_days(
                self.connections.rollup_ports,
                settings.topic,
                [progress.day for progress in reversed(done)],
                budget_seconds=RunBudget(seconds).part(0.25),
                retry_seconds=settings.retry_seconds,
                patience_seconds=_RUN_PATIENCE_SECONDS,
                retention=settings.retention,
            )
        except PipelineError as exc:
            return exc

    def _check(self, compared: Comparisons | PipelineError | None) -> Events:
        wanted, keys = self.context.selected_asset_check_keys, _keys(self.pipeline)
        checks = [
            check
            for asset, key in keys.items()
            for check in checks_of(asset)
            if dg.AssetCheckKey(key, check.name) in wanted
        ]
        facts = Facts(self.connections, datetime.now(UTC), compared=compared)
        for check, verdict in zip(checks, look_at(checks, facts), strict=True):
            yield dg.AssetCheckResult(
                asset_key=keys[check.asset],
                check_name=verdict.name,
                passed=verdict.passed,
                severity=SEVERITIES[verdict.severity],
                description=plain(verdict.sentence),
                metadata=dict(verdict.numbers),
            )


def _days_of(run: dg.DagsterRun) -> list[date]:
    """The days that a run was asked for, oldest first; at least one.

    Its tags, not `context.partition_keys`: those must be among the partitions that this process
    loaded, and a worker with a disk of its own takes today for the day with which they begin.
    """
    asked = run.tags.get(RANGE_START) or run.tags.get(_ONE_DAY)
    if asked is None:
        raise ConfigurationError("rollups of no day: launch them with a partition, or a range")
    first = date.fromisoformat(asked)
    last = date.fromisoformat(run.tags.get(RANGE_END) or asked)
    if last < first:
        raise ConfigurationError(f"rollups of {first} to {last}: expected the earlier day first")
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def _materialization(
    key: dg.AssetKey, progress: RollupProgress, pictures: Metadata, *, is_hourly: bool
) -> dg.AssetMaterialization:
    rollups = progress.hours if is_hourly else progress.devices_done
    summary = (
        f"{progress.readings:,} readings of {progress.devices:,} devices make {rollups:,} rollups, "
        f"in {progress.seconds:.1f} s"
    )
    for more in filter(None, (progress.note, progress.warning)):
        summary += f"; {more}"
    return dg.AssetMaterialization(
        key,
        partition=str(progress.day),
        description=summary,
        metadata={
            "summary": summary,
            "readings": progress.readings,
            "devices": progress.devices,
            "rollups": rollups,
            "dagster/partition_row_count": rollups,
            **pictures,
        },
    )
