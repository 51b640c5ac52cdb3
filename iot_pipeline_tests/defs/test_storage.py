"""Dagster's storage may be away while a run works, and what the run says then ends no run."""

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.defs.ingest_run import _RunLog
from iot_pipeline.defs.resources import NowAndThen
from iot_pipeline.defs.storage import Unheard, spared
from iot_pipeline.stages.ingest.progress import DrainProgress
from iot_pipeline.stages.proof.replay_progress import ReplayProgress

STAGE = logging.getLogger("iot_pipeline.stages.ingest.of_this_test")
RUN = logging.getLogger("dagster.of_this_test")
RANGE = OffsetRange(0, 0, 5)


@dataclass
class ToDagster(logging.Handler):
    """As Dagster's: raises while the storage is away, and changes the text of what it is given."""

    is_away: bool = False
    asked: int = 0
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    __hash__ = logging.Handler.__hash__

    def emit(self, record: logging.LogRecord) -> None:
        self.asked += 1
        record.msg, record.args = f"run - {record.getMessage()}", ()
        if self.is_away:
            raise OperationalError("INSERT", {}, Exception("no connection"))
        self.said.append(record.msg)


@pytest.fixture
def to_dagster() -> Iterator[ToDagster]:
    handler = ToDagster()
    for log in (STAGE, RUN):
        log.addHandler(handler)
    yield handler
    for log in (STAGE, RUN):
        log.removeHandler(handler)


def _in_another_thread(*lines: str) -> None:
    def say() -> None:
        for line in lines:
            STAGE.warning("%s", line)

    thread = threading.Thread(target=say)
    thread.start()
    thread.join(30)


def test_what_another_thread_says_waits_and_is_heard_once(to_dagster: ToDagster) -> None:
    with spared(RUN) as pass_on:
        to_dagster.is_away = True
        _in_another_thread("a retry", "another")
        assert to_dagster.asked == 0, "a reading would wait for it"
        with pytest.raises(OperationalError):
            pass_on()
        to_dagster.is_away = False
        pass_on()
        pass_on()
        _in_another_thread("at the end")
    assert to_dagster.said == ["run - a retry", "run - another", "run - at the end"]


def test_what_a_stage_says_in_the_runs_own_thread_is_left_out_for_a_minute(
    to_dagster: ToDagster,
) -> None:
    with spared(RUN):
        STAGE.warning("before")
        to_dagster.is_away = True
        for _ in range(3):
            STAGE.warning("an outage")
        assert to_dagster.asked == 2, "each attempt takes twelve seconds"
        with pytest.raises(OperationalError):
            RUN.warning("what Dagster says of the run is not ours to leave out")
    with pytest.raises(OperationalError):
        STAGE.warning("all is as before")
    assert to_dagster.said == ["run - before"]


def test_what_was_not_heard_is_asked_again_after_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now, asked, unheard = [1000.0], [], Unheard()
    monkeypatch.setattr("iot_pipeline.defs.storage.time.monotonic", lambda: now[0])

    def say() -> None:
        asked.append(now[0])
        raise OperationalError("INSERT", {}, Exception("no connection"))

    for now[0] in (1000.0, 1059.0, 1060.0):
        unheard(say)
    assert asked == [1000.0, 1060.0]
    with pytest.raises(ZeroDivisionError):
        Unheard()(lambda: 1 / 0)


@pytest.mark.parametrize(
    "tell",
    [
        lambda watcher: watcher.planned(SimpleNamespace(replay=[], ingest=[RANGE])),
        lambda watcher: watcher.lost([RANGE]),
        lambda watcher: watcher.committed(SimpleNamespace(drained=DrainProgress())),
        lambda watcher: watcher.replayed(ReplayProgress([RANGE])),
    ],
    ids=["planned", "lost", "committed", "replayed"],
)
def test_a_drain_goes_on_where_its_log_and_its_tags_are_refused(
    tell: Callable[[_RunLog], None], to_dagster: ToDagster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iot_pipeline.defs.resources._SAID_EVERY_SECONDS", 0.0)
    refused: list[str] = []

    def refuse(*_: object) -> None:
        refused.append("tags")
        raise OperationalError("UPDATE", {}, Exception("no connection"))

    to_dagster.is_away = True
    run, instance = SimpleNamespace(run_id="a-run"), SimpleNamespace(add_run_tags=refuse)
    context: Any = SimpleNamespace(log=RUN, run=run, instance=instance)
    RUN.setLevel(logging.INFO)
    tell(_RunLog(context, NowAndThen(context), pass_on=lambda: None))
    assert to_dagster.asked + len(refused) == 1
