"""Old runs go with their files; what is in progress, or nobody's, is looked at twice."""

import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from iot_pipeline.defs.history import build_delete_old_runs
from iot_pipeline.defs.instance import POSTGRES_URL, prepare_instance
from iot_pipeline.report import delete_old_reports
from iot_pipeline_tests.defs.keys import PIPELINE
from iot_pipeline_tests.servers import clean_environment

RUN_ID = "0123abcd-0000-4000-8000-0123456789ab"


@dg.op
def something(context: dg.OpExecutionContext) -> None:
    context.log.info("something")


@dg.job(executor_def=dg.in_process_executor)
def leaves_history() -> None:
    something()


@dg.job(executor_def=dg.in_process_executor)
def purge_runs() -> None:
    build_delete_old_runs(PIPELINE)()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.services)])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "postgres":
        request.getfixturevalue("on_postgres")
    home = prepare_instance(tmp_path / "home")
    assert (home / "history").exists() == (POSTGRES_URL not in os.environ)
    return home


def purge(instance: dg.DagsterInstance, **config: object) -> dg.ExecuteInProcessResult:
    return purge_runs.execute_in_process(
        instance=instance, run_config={"ops": {"delete_old_runs": {"config": config}}}
    )


def files_of(home: Path, run_id: str) -> list[Path]:
    return [path for path in home.rglob(f"{run_id}*") if path.exists()]


def test_runs_beyond_those_kept_are_deleted_with_their_files(home: Path) -> None:
    with dg.DagsterInstance.from_config(str(home)) as instance:
        runs = [leaves_history.execute_in_process(instance=instance) for _ in range(4)]
        for result in runs:
            (home / "storage" / result.run_id).mkdir(parents=True, exist_ok=True)
            (home / "storage" / result.run_id / "log").write_text("said")
            assert files_of(home, result.run_id)
        active = instance.create_run_for_job(leaves_history, status=dg.DagsterRunStatus.STARTED)
        purge(instance, keep_runs=2, keep_days=1.0, keep_failed_days=1.0)
        for result in runs[:2]:
            assert instance.get_run_by_id(result.run_id) is None
            assert files_of(home, result.run_id) == []
        for result in runs[2:]:
            assert instance.get_run_by_id(result.run_id) is not None
            assert instance.all_logs(result.run_id)
        assert instance.get_run_by_id(active.run_id) is not None


def test_files_that_a_killed_purge_left_go_with_the_next_one(home: Path) -> None:
    runs = home / "history" / "runs"
    runs.mkdir(parents=True, exist_ok=True)  # with Postgres there is none, unless of a time before
    orphan = runs / f"{RUN_ID}.db"
    orphan.write_bytes(b"old")
    os.utime(orphan, (time.time() - 7200,) * 2)
    young = runs / f"{RUN_ID.replace('0123abcd', 'abcd0123')}.db"
    young.write_bytes(b"being made")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        purge(instance)
        assert not orphan.exists()
        assert young.exists()
        assert (runs / "index.db").exists() == (POSTGRES_URL not in os.environ)
        assert instance.get_runs()


def test_reports_of_long_ago_go_and_the_newest_page_stays(tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    reports.mkdir()
    names = {
        "2026-03-01T12-00-00Z.html", "2026-03-09T12-00-00Z.html", "latest.html", "mine.html",
    }  # fmt: skip
    for name in names:
        (reports / name).write_text("a page")
    now = datetime(2026, 3, 10, tzinfo=UTC)
    assert delete_old_reports(tmp_path, now, 5.0) == 1
    assert {path.name for path in reports.iterdir()} == names - {"2026-03-01T12-00-00Z.html"}
    assert delete_old_reports(tmp_path / "nothing here", now, 5.0) == 0


def test_a_persons_dagster_yaml_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(POSTGRES_URL, raising=False)
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    prepare_instance(tmp_path)
    assert (tmp_path / "dagster.yaml").read_text() == "telemetry: {enabled: false}\n"


def test_many_processes_may_prepare_one_home_at_once(tmp_path: Path) -> None:
    home = tmp_path / "home"
    # Another home first, for all that is imported on the way: three processes that import Dagster
    # for themselves take seconds and start apart. These start at the same moment.
    code = """
import os, runpy, sys
from pathlib import Path
from iot_pipeline.defs.instance import prepare_instance
prepare_instance(Path(sys.argv[1] + "_before"))
ready, go = os.pipe()
children = []
for _ in range(3):
    child = os.fork()
    if child == 0:
        os.close(go)
        os.read(ready, 1)
        runpy.run_path(sys.modules["iot_pipeline.defs.instance"].__file__, run_name="__main__")
        sys.stdout.flush()
        os._exit(0)
    children.append(child)
os.close(go)
sys.exit(any([os.waitpid(child, 0)[1] for child in children]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(home)],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(home)] * 3
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert instance.get_runs() == []
        limits = instance.get_concurrency_config()
        assert limits is not None
        assert instance.run_monitoring_enabled
