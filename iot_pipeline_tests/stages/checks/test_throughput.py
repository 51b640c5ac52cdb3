"""Two runs in a row much slower than runs like them were are told of; a quiet hour is not."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from iot_pipeline.core.checks.verdicts import CheckVerdict
from iot_pipeline.core.ingest.latency import Latencies
from iot_pipeline.core.ingest.run_costs import LEAST_ROWS, LEAST_RUNS
from iot_pipeline.core.ingest.throttle import Limit
from iot_pipeline.core.ledger.chain import Counts
from iot_pipeline.core.reading.offsets import OffsetRange, TopicInfo
from iot_pipeline.settings import Settings
from iot_pipeline.stages.checks.machinery.facts import Facts, RunFacts
from iot_pipeline.stages.checks.throughput_is_usual import look
from iot_pipeline.stages.ingest.progress import DrainProgress
from iot_pipeline_tests.stages.fake_ledger import FakeRunCosts
from iot_pipeline_tests.stages.world import LARGE, World

TOPIC = TopicInfo("iot_data", "id", 1, {})


@dataclass
class History:
    """Runs one after another, a minute apart."""

    settings: Settings = field(default_factory=Settings)
    costs: FakeRunCosts = field(default_factory=FakeRunCosts)
    now: datetime = datetime(2026, 3, 11, tzinfo=UTC)
    runs: int = 0

    def drain(
        self,
        seconds: float = 2.0,
        rows: int = 200_000,
        cpu_seconds: float = 1.0,
        lane: str = "0 of 1",
        **of_run: Any,
    ) -> CheckVerdict:
        progress = DrainProgress(
            committed={(0, 0): (OffsetRange(0, 0, rows), Counts(stored=rows))},
            seconds=seconds,
            cpu_seconds=cpu_seconds,
            **{k: of_run.pop(k) for k in ("is_throttled",) if k in of_run},
        )
        self.runs += 1
        self.now += timedelta(minutes=1)
        name = f"run-{self.runs}"
        run = RunFacts(name, progress, (), (), (), self.now, TOPIC, lane=lane, **of_run)
        return self.look(run)

    def follow(self, p99_seconds: float, rows: int = 5_000, samples: int = 200) -> CheckVerdict:
        latencies = Latencies.of([p99_seconds] * samples)
        return self.drain(10.0, rows, latencies=latencies, is_growing=True)

    def look(self, run: RunFacts | None = None) -> CheckVerdict:
        ports: Any = SimpleNamespace(settings=self.settings, run_costs=self.costs)
        return look(Facts(ports, self.now, run))

    @property
    def kept(self) -> int:
        return sum(map(len, self.costs.kept.values()))


def test_nothing_is_claimed_before_there_are_runs_to_compare_with():
    history = History()
    assert "Nothing to compare with yet: 0 of 10 runs" in history.look().sentence
    for number in range(1, LEAST_RUNS + 2):
        verdict = history.drain()
        assert verdict.passed
        assert f"Nothing to compare with yet: {number} of 10 runs" in verdict.sentence
    said = history.drain().sentence
    assert said.startswith("As usual: 100,000 and 100,000 rows a second in the newest 2 runs, the ")


def test_two_slow_runs_in_a_row_are_told_of_and_one_is_not():
    history = History()
    for _ in range(LEAST_RUNS + 1):
        history.drain()
    assert history.drain(seconds=4.5).passed
    assert history.drain().passed
    assert history.drain(seconds=4.5).passed
    verdict = history.drain(seconds=4.5)
    assert not verdict.passed
    assert verdict.numbers["rows_per_second"] == pytest.approx(44_444, 1e-3)
    assert verdict.numbers["usual_rows_per_second"] == 100_000
    assert "44,444 and 44,444 rows a second" in verdict.sentence
    assert not history.look().passed, "the schedule says the same"
    assert history.drain().passed


def test_cpu_that_a_row_takes_is_compared_by_itself():
    history = History()
    for _ in range(LEAST_RUNS + 1):
        history.drain()
    history.drain(cpu_seconds=2.5)
    verdict = history.drain(cpu_seconds=2.5)
    assert not verdict.passed
    assert "12.5 and 12.5 µs of CPU a row" in verdict.sentence
    assert "rows a second" not in verdict.sentence


def test_only_what_had_to_take_its_time_is_compared_and_only_with_its_like():
    history = History()
    for _ in range(LEAST_RUNS + 2):
        history.drain()
    kept = history.kept
    # A quiet hour, a throttle, and nothing at all.
    for _ in range(3):
        assert history.drain(seconds=30.0, rows=LEAST_ROWS - 1).passed
        assert history.drain(seconds=30.0, is_throttled=True).passed
        assert history.drain(seconds=30.0, rows=0).passed
        assert history.drain(seconds=30.0, cpu_seconds=0.0).passed
    assert history.kept == kept
    # Five times as many rows at a tenth of the speed: there is none like it yet.
    for number in (1, 2):
        said = history.drain(seconds=100.0, rows=1_000_000).sentence
        assert f"Nothing to compare with yet: {number} of 10 runs" in said
    assert history.kept == kept + 2


def test_each_lane_is_compared_with_itself_and_a_run_of_one_clears_no_other():
    history = History(Settings(lanes=2))
    for _ in range(LEAST_RUNS + 1):
        history.drain(lane="0 of 2")
        history.drain(seconds=20.0, lane="1 of 2")
    for _ in range(2):
        history.drain(seconds=20.0, lane="0 of 2")
    verdict = history.drain(seconds=20.0, lane="1 of 2")
    assert not verdict.passed
    assert verdict.sentence.startswith("lane 0 of 2: 10,000 and 10,000 rows a second")
    assert "lane 1 of 2" not in verdict.sentence


def test_latency_is_kept_every_ten_minutes_and_compared_at_similar_rates():
    history = History()
    for _ in range(10 * (LEAST_RUNS + 1)):
        assert history.follow(0.05).passed
    assert history.kept == LEAST_RUNS + 1
    for _ in range(10):
        history.follow(0.3)
    assert history.look().passed, "once"
    for _ in range(10):
        verdict = history.follow(0.3)
    assert not verdict.passed
    assert "ms from topic to row (p99)" in verdict.sentence
    before = history.kept
    for _ in range(20):
        history.follow(9.0, samples=20)
    assert history.kept == before, "a percentile of few"


def test_a_drain_says_whether_a_limit_held_and_what_cpu_it_took():
    world = World()
    world.write()
    free = world.drain()
    assert not free.is_throttled
    assert free.cpu_seconds > 0
    world.write(at=1_735_444_920.0)
    assert world.drain(config=replace(LARGE, limit=Limit(1_000))).is_throttled
