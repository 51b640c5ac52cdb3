"""What is kept of the past: Dagster's runs and their files, and the ledger's detail.

Dagster keeps a file per run and frees none when a run is deleted: 150 KB and more each, gigabytes
a day with a run every few seconds.
"""

import re
import shutil
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
from pydantic import Field

from iot_pipeline.connections import Connections
from iot_pipeline.core.ledger.folding import FinishedRun, choose_runs_to_delete
from iot_pipeline.defs.launchpad import Asked, job_of, schedule_of
from iot_pipeline.defs.pipeline import Pipeline
from iot_pipeline.defs.resources import connected
from iot_pipeline.report import delete_old_reports
from iot_pipeline.stages.ledger.folding import fold_ledger
from iot_pipeline.stages.ledger.sums import keep_sums

_FINISHED = [
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
]
_PAGE = 1_000
_RUN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LOG_EVERY_RUNS = 500
# A file this young may belong to a run that is being made.
_SETTLED_SECONDS = 3600


class PurgeConfig(Asked):
    """What to keep; empty fields are as the settings say."""

    keep_days: float | None = Field(None, ge=0)
    """Days to keep successful runs; empty: IOT_RUN_HISTORY_DAYS."""
    keep_failed_days: float | None = Field(None, ge=0)
    """Days to keep failed and terminated runs; empty: IOT_FAILED_RUN_HISTORY_DAYS."""
    keep_runs: int | None = Field(None, ge=1)
    """Runs to keep at most; empty: IOT_RUN_HISTORY_RUNS."""


def build_delete_old_runs(pipeline: Pipeline) -> dg.OpDefinition:
    @dg.op(
        name=pipeline.called("delete_old_runs"),
        description="Delete finished runs that are old, and their files.",
    )
    def delete_old_runs(context: dg.OpExecutionContext, config: PurgeConfig) -> None:
        _delete_old_runs(context, config, pipeline)

    return delete_old_runs


def build_purge(pipeline: Pipeline) -> tuple[dg.JobDefinition, dg.ScheduleDefinition]:
    """The job, and the schedule that launches it each night."""

    @dg.op(
        name=pipeline.called("delete_old_pages"),
        description="Delete health reports that are old; the newest stays as latest.html.",
    )
    def delete_old_pages(context: dg.OpExecutionContext) -> None:
        settings = pipeline.settings()
        deleted = delete_old_reports(settings.data_dir, datetime.now(UTC), settings.report_days)
        context.log.info("deleted %d reports", deleted)
        context.add_output_metadata({"reports_deleted": deleted})

    @dg.op(
        name=pipeline.called("fold_old_ledger_entries"),
        description="Make one entry a day of old ledger entries; every sum stays what it was.",
        required_resource_keys=pipeline.resource_keys,
    )
    def fold_old_ledger_entries(context: dg.OpExecutionContext) -> None:
        with connected(context, pipeline) as connections:
            _fold(context, connections)

    purge_history = job_of(
        pipeline,
        build_delete_old_runs(pipeline),
        delete_old_pages,
        fold_old_ledger_entries,
        name="purge_history",
        config=PurgeConfig,
        description=(
            "Delete old Dagster runs with their files and old health reports, and fold the "
            "ledger's old entries into one a day and Kafka partition. How long is kept is a "
            "setting: IOT_RUN_HISTORY_DAYS, IOT_FAILED_RUN_HISTORY_DAYS, IOT_RUN_HISTORY_RUNS, "
            "IOT_REPORT_DAYS, IOT_LEDGER_DETAIL_DAYS."
        ),
        max_seconds=3600,
    )
    purge_daily = schedule_of(
        pipeline,
        purge_history,
        name="purge_daily",
        cron="30 3 * * *",
        description="Keeps the disk that run history takes, and the time the ledger takes to read.",
    )
    return purge_history, purge_daily


def _delete_old_runs(
    context: dg.OpExecutionContext, config: PurgeConfig, pipeline: Pipeline
) -> None:
    """Runs in progress are never touched. If it is interrupted, the next purge goes on."""
    settings = pipeline.settings()
    instance = context.instance
    finished, known = _all_runs(instance, pipeline)
    doomed = choose_runs_to_delete(
        finished,
        datetime.now(UTC),
        keep_days=_chosen(config.keep_days, settings.run_history_days),
        keep_failed_days=_chosen(config.keep_failed_days, settings.failed_run_history_days),
        keep_runs=config.keep_runs or settings.run_history_runs,
    )
    home = Path(instance.root_directory)
    freed = 0
    for number, run_id in enumerate(doomed, start=1):
        instance.delete_run(run_id)
        freed += _delete_files(home, run_id)
        if number % _LOG_EVERY_RUNS == 0:
            context.log.info("%d of %d runs deleted", number, len(doomed))
    # A file does not say of which pipeline its run was.
    orphans = [] if pipeline.name else _orphans(home, known)
    freed += sum(_delete_files(home, run_id) for run_id in orphans)
    context.log.info(
        "deleted %d of %d runs, and the files of %d that were gone already: %.1f MB",
        len(doomed),
        len(known),
        len(orphans),
        freed / 1e6,
    )
    context.add_output_metadata(
        {
            "runs_deleted": len(doomed),
            "runs_kept": len(known) - len(doomed),
            "orphans_deleted": len(orphans),
            "bytes_freed": freed,
        }
    )


def _chosen(asked: float | None, default: float) -> float:
    return default if asked is None else asked


def _all_runs(
    instance: dg.DagsterInstance, pipeline: Pipeline
) -> tuple[list[FinishedRun], set[str]]:
    finished: list[FinishedRun] = []
    known: set[str] = set()
    cursor: str | None = None
    while True:
        records = instance.get_run_records(limit=_PAGE, cursor=cursor)
        for record in records:
            run = record.dagster_run
            if not pipeline.is_own(run):
                continue
            known.add(run.run_id)
            if run.status in _FINISHED:
                ended_at = record.create_timestamp.replace(tzinfo=UTC)
                if record.end_time is not None:
                    ended_at = datetime.fromtimestamp(record.end_time, UTC)
                is_success = run.status == dg.DagsterRunStatus.SUCCESS
                finished.append(FinishedRun(run.run_id, ended_at, is_success))
        if len(records) < _PAGE:
            return finished, known
        cursor = records[-1].dagster_run.run_id


def _delete_files(home: Path, run_id: str) -> int:
    """Bytes freed."""
    folder = home / "storage" / run_id
    logs = (home / "history" / "runs").glob(f"{run_id}.db*")
    files = [*logs, *(item for item in folder.rglob("*") if item.is_file())]
    freed = sum(path.stat().st_size for path in files)
    for path in files:
        path.unlink()
    shutil.rmtree(folder, ignore_errors=True)
    return freed


def _orphans(home: Path, known: Collection[str]) -> list[str]:
    """Run ids whose files are here and whose run is not: a purge that was killed left them."""
    now = datetime.now(UTC).timestamp()
    paths = [*(home / "history" / "runs").glob("*"), *(home / "storage").glob("*")]
    settled = [path for path in paths if now - path.stat().st_mtime > _SETTLED_SECONDS]
    found = {path.name.split(".")[0] for path in settled}
    return sorted(name for name in found - set(known) if _RUN_ID.fullmatch(name))


def _fold(context: dg.OpExecutionContext, connections: Connections) -> None:
    settings = connections.settings
    parts = range(connections.log.describe(settings.topic).partitions)
    report = fold_ledger(
        connections.ledger,
        settings.topic,
        parts,
        datetime.now(UTC),
        settings.ledger_detail_days,
    )
    # Rebuilt here, so a wrong sum lives a day at most.
    keep_sums(connections.ledger, connections.ledger_sums, settings.topic, parts, is_afresh=True)
    context.log.info("the ledger had %d entries, it has %d now", report.before, report.after)
    context.add_output_metadata({"entries_before": report.before, "entries_after": report.after})
