"""Rules and dashboard on a real Prometheus that scrapes a pipeline and a run that follows."""

import json
import re
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from iot_pipeline.artifacts.prometheus import served
from iot_pipeline.connections import ingest_request
from iot_pipeline.core.alerts.metrics import METRICS
from iot_pipeline.metrics import Observer, run_metrics
from iot_pipeline.stages.ingest.following import Follow
from iot_pipeline.stages.run_ingest import Watcher, new_outcome, run_ingest
from iot_pipeline_tests.grafana_dashboard import INTERVAL, PANELS, PATH, build
from iot_pipeline_tests.load import fleet, produce
from iot_pipeline_tests.patience import until
from iot_pipeline_tests.pipeline import Pipeline, new_run
from iot_pipeline_tests.servers import free_ports

pytestmark = pytest.mark.services

RULES = Path(__file__).resolve().parents[1] / "deploy" / "prometheus"
RUNBOOK = RULES.parents[1] / "docs" / "runbook.md"


def program(name: str) -> str:
    found = shutil.which(name)
    assert found, f"{name} is missing; on Debian or Ubuntu: apt-get install prometheus"
    return found


def test_the_rules_do_what_their_own_tests_say() -> None:
    done = subprocess.run(
        [program("promtool"), "test", "rules", "iot_pipeline.test.yml"],
        cwd=RULES,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    runbook = RUNBOOK.read_text()
    groups = yaml.safe_load((RULES / "iot_pipeline.rules.yml").read_text())["groups"]
    for rule in (rule for group in groups for rule in group["rules"] if "alert" in rule):
        heading = rule["annotations"]["runbook"]
        assert "{{" in heading or re.search(rf"^##+ {heading}", runbook, re.MULTILINE), heading


@contextmanager
def prometheus(folder: Path, targets: dict[str, int]) -> Iterator[str]:
    (port,) = free_ports(1)
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES / "iot_pipeline.rules.yml")],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{at}"]}]}
            for job, at in targets.items()
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                program("prometheus"),
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=warn",
            ],
            stdout=log,
            stderr=log,
        )
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)


def ask(address: str, path: str, **asked: str) -> Any:
    query = urllib.parse.urlencode(asked)
    with urllib.request.urlopen(f"{address}/api/v1/{path}?{query}", timeout=10) as answer:
        found = json.load(answer)
    assert found["status"] == "success"
    return found["data"]


def wait_for_scrapes(address: str, targets: int, scrapes: int, log: Path) -> None:
    expression = f"count(count_over_time(up[1m]) >= {scrapes} and up == 1)"
    deadline = until(60)
    while time.monotonic() < deadline:
        try:
            found = ask(address, "query", query=expression)["result"]
        except (OSError, urllib.error.URLError):
            found = []
        if found and int(found[0]["value"][1]) == targets:
            return
        time.sleep(0.2)
    raise AssertionError(f"not scraped: {log.read_text()}")


class Committing(Watcher):
    """Hands each commit to the metrics, and says when something was stored."""

    def __init__(self, live: Any) -> None:
        self.live, self.stored = live, threading.Event()

    def committed(self, outcome: Any) -> None:
        self.live.committed(outcome)
        if outcome.drained.total.stored:
            self.stored.set()


def test_prometheus_scrapes_it_and_answers_every_panel_of_the_dashboard(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    assert PATH.read_text() == build(), "make dashboard"
    produce(pipeline.brokers, pipeline.topic, fleet("d", 5, 500))
    pipeline.drain()
    pipeline.iot("audit", "--all")
    observer = Observer(pipeline.connections, checks_seconds=600)
    samples = observer.look(datetime.now(UTC)).samples
    (port,) = free_ports(1)
    settings = pipeline.settings.model_copy(update={"metrics_port": port})
    outcome, is_over = new_outcome(pipeline.connections), threading.Event()
    with run_metrics(settings, outcome) as live:
        watcher = Committing(live)
        follow = Follow(600, should_stop=is_over.is_set)
        request = ingest_request(settings, new_run(), follow=follow)
        thread = threading.Thread(
            target=run_ingest,
            args=(request, pipeline.connections),
            kwargs={"outcome": outcome, "watcher": watcher},
        )
        thread.start()
        try:
            with (
                served(0, "127.0.0.1", lambda: samples) as of_pipeline,
                prometheus(tmp_path, {"pipeline": of_pipeline, "follow": port}) as address,
            ):
                produce(pipeline.brokers, pipeline.topic, fleet("e", 5, 50))
                assert watcher.stored.wait(60)
                wait_for_scrapes(address, targets=2, scrapes=3, log=tmp_path / "log")
                names = {
                    name
                    for job in ("pipeline", "follow")
                    for name in ask(
                        address, "label/__name__/values", **{"match[]": f'{{job="{job}"}}'}
                    )
                }
                empty = [
                    f"{shown.title}: {expression}"
                    for panels in PANELS.values()
                    for shown in panels
                    for expression, _ in shown.queries
                    if not ask(address, "query", query=expression.replace(INTERVAL, "1m"))["result"]
                ]
                rules = [rule for g in ask(address, "rules")["groups"] for rule in g["rules"]]
        finally:
            is_over.set()
            thread.join(60)
    assert not empty
    assert {rule["health"] for rule in rules} == {"ok"}
    assert len(rules) == 12
    base = {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}
    assert {metric.name for metric in METRICS} <= base


def _of(job: str) -> str:
    return f'{{job="{job}"}}'
