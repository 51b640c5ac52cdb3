"""Which ingest runs are at work: one at a time in each lane.

A lane is every n-th Kafka partition of a topic; IOT_LANES says how many there are. A run that is
asked for by a person works on all partitions: it meets every lane, and waits until they are free.
The lane tag serialises runs of the jobs that carry it. Materialize launches Dagster's own job,
which carries no tag of ours, so its runs are recognised by their assets until they have tagged
themselves.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import dagster as dg

from iot_pipeline.core.reading.offsets import OffsetRange, parse_range
from iot_pipeline.defs.alive import why_gone
from iot_pipeline.defs.names import ACHIEVED, HAS_A_PROCESS, LANE, RANGES
from iot_pipeline.defs.pipeline import Pipeline

_IN_PROGRESS = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_MOST_NAMED = 4


@dataclass(frozen=True, slots=True)
class Lane:
    """What one ingest run at a time works on: the Kafka partitions p with p mod `count` = `place`.

    It contains their numbers. `base` is what all lanes of the topic are called by, `asset_key` the
    table that their runs write to. One of one is the whole topic.
    """

    base: str
    asset_key: dg.AssetKey
    place: int = 0
    count: int = 1

    def __contains__(self, partition: object) -> bool:
        return isinstance(partition, int) and partition % self.count == self.place

    @property
    def is_whole(self) -> bool:
        return self.count == 1

    @property
    def looks_at_devices(self) -> bool:
        """Whether its runs judge the devices: one lane does, so that two never disagree."""
        return self.place == 0

    @property
    def tag(self) -> str:
        """The value of LANE: runs with the same one never overlap."""
        return self.base if self.is_whole else f"{self.base}/{self.place}-of-{self.count}"

    @property
    def words(self) -> str:
        """As it is called where a person reads of its runs."""
        table = self.asset_key.to_user_string()
        return table if self.is_whole else f"{table}, lane {self.place} of {self.count},"

    def meets(self, other: "Lane") -> bool:
        """Whether some number of a partition is in both."""
        step = math.gcd(self.count, other.count)
        return self.base == other.base and (self.place - other.place) % step == 0

    def tagged(self, tag: str) -> "Lane | None":
        """The lane of the same topic that a tag names; None: it is of something else."""
        if tag == self.base:
            return Lane(self.base, self.asset_key)
        found = re.fullmatch(r"(\d+)-of-(\d+)", tag.removeprefix(f"{self.base}/"))
        if found is None:
            return None
        return Lane(self.base, self.asset_key, int(found[1]), int(found[2]))


@dataclass(frozen=True, slots=True)
class Lanes:
    """Several lanes; it contains the numbers of the partitions of each."""

    lanes: tuple[Lane, ...]

    def __contains__(self, partition: object) -> bool:
        return any(partition in lane for lane in self.lanes)


def whole_lane(pipeline: Pipeline) -> Lane:
    """All partitions of the topic: what a run without a lane works on."""
    return Lane(pipeline.lane, pipeline.sensor_data)


def ingest_lanes(pipeline: Pipeline) -> list[Lane]:
    """Every lane there is, as many as IOT_LANES says."""
    whole, count = whole_lane(pipeline), pipeline.settings().lanes
    return [Lane(whole.base, whole.asset_key, place, count) for place in range(count)]


def lane_of(run: dg.DagsterRun, pipeline: Pipeline) -> Lane:
    """The lane that a run's tag names; of a run without one, such as Materialize's, the whole."""
    whole = whole_lane(pipeline)
    return whole.tagged(run.tags.get(LANE, "")) or whole


def active_ingest_runs(instance: dg.DagsterInstance, lane: Lane) -> list[dg.RunRecord]:
    """Runs that ingest partitions of the lane or are about to, oldest first."""
    records = instance.get_run_records(dg.RunsFilter(statuses=_IN_PROGRESS), limit=200)
    ours = [record for record in records if _is_ingest(record.dagster_run, lane)]
    return sorted(ours, key=_age)


def runs_in_lane(instance: dg.DagsterInstance, lane: str) -> list[dg.RunRecord]:
    """Runs that carry the lane's tag and have not ended, oldest first."""
    filters = dg.RunsFilter(statuses=_IN_PROGRESS, tags={LANE: lane})
    return sorted(instance.get_run_records(filters, limit=200), key=_age)


def why_queued(instance: dg.DagsterInstance) -> str:
    """What a run that is queued waits for when all slots are taken, and by whom; else empty."""
    config = instance.get_concurrency_config().run_queue_config
    most = config.max_concurrent_runs if config else -1
    if most < 0:
        return ""
    waiting = dg.DagsterRunStatus.QUEUED
    filters = dg.RunsFilter(statuses=[status for status in _IN_PROGRESS if status != waiting])
    at_work = sorted(instance.get_run_records(filters, limit=200), key=_age)
    if len(at_work) < most:
        return ""
    names = [
        f"{record.dagster_run.run_id[:8]} ({record.dagster_run.job_name}, since "
        f"{record.create_timestamp:%Y-%m-%d %H:%M} UTC)"
        for record in at_work[:_MOST_NAMED]
    ]
    more = len(at_work) - len(names)
    return (
        f": all {most} slots of Dagster are taken by {', '.join(names)}"
        f"{f' and {more} more' if more else ''}. Terminate one of them, or raise "
        "concurrency.runs.max_concurrent_runs in DAGSTER_HOME's dagster.yaml; the file that this "
        "version ships keeps a slot for ingestion"
    )


def _age(record: dg.RunRecord) -> tuple[float, str]:
    return record.create_timestamp.timestamp(), record.dagster_run.run_id


def _is_ingest(run: dg.DagsterRun, lane: Lane) -> bool:
    tagged = lane.tagged(run.tags.get(LANE, ""))
    if tagged is not None:
        return lane.meets(tagged)
    return run.job_name.startswith("__ASSET_JOB") and lane.asset_key in (run.asset_selection or ())


def run_ahead_of(instance: dg.DagsterInstance, lane: Lane, own_run_id: str) -> dg.DagsterRun | None:
    """A run that is at work on partitions of the lane and goes first; None: go ahead.

    Of two runs the older one, so two that start together never both step aside; but one of all
    partitions waits for those of single lanes that have begun, and none of them begins meanwhile.
    """
    records = active_ingest_runs(instance, lane)
    own = [_age(record) for record in records if record.dagster_run.run_id == own_run_id]
    for record in records:
        run = record.dagster_run
        if run.run_id == own_run_id:
            continue
        other = lane.tagged(run.tags.get(LANE, "")) or lane
        if other.is_whole == lane.is_whole and own and _age(record) > own[0]:
            continue
        is_at_work = run.status in (dg.DagsterRunStatus.STARTING, *HAS_A_PROCESS)
        if is_at_work and why_gone(instance, record) is None:
            return run
    return None


def format_ranges(ranges: Iterable[OffsetRange]) -> str:
    """As in a tag: `0:100-200 1:5-9`."""
    return " ".join(map(str, ranges))


def parse_ranges(text: str) -> list[OffsetRange]:
    """What `format_ranges` wrote."""
    return [parse_range(part) for part in text.split()]


def inherited_ranges(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[OffsetRange] | None:
    """What a re-execution is to drain; None when this is none, or its config was changed.

    That is what the first run achieved, and where it achieved nothing what it was to drain.
    """
    if run.parent_run_id is None:
        return None
    parent = instance.get_run_by_id(run.parent_run_id)
    if parent is None or _ops_of(parent.run_config) != _ops_of(run.run_config):
        return None
    text = parent.tags.get(ACHIEVED) or parent.tags.get(RANGES)
    return parse_ranges(text) if text else None


def _ops_of(run_config: Mapping[str, object]) -> object:
    # Empty and absent ask for the same; the UI and the sensor write them differently.
    return run_config.get("ops") or {}
