"""What a Dagster instance must be set to so that ingestion runs well there, and what it lacks.

The dagster.yaml that this version ships has all of it. A team's own instance may have none:
`iot check-instance` says what that costs, and prints the lines; it asks
`python -m iot_pipeline.defs.instance_needs HOME LANES`.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import dagster as dg
import yaml
from dagster._core.scheduler.instigation import InstigatorType, TickStatus
from dagster._core.storage.runs import SqliteRunStorage

from iot_pipeline.defs.instance import shipped_config
from iot_pipeline.defs.names import LANE
from iot_pipeline.defs.workers import (
    BESIDE_LANES,
    Worker,
    ask_workers,
    celery_of,
    look_at_workers,
    why_it_may_hang,
    why_none_is_launched,
)
from iot_pipeline.errors import TransientError

_UNIQUE = "applyLimitPerUniqueValue"


@dataclass(frozen=True, slots=True)
class Lack:
    """One thing that an instance lacks: the key of dagster.yaml, and what happens without it."""

    key: str
    consequence: str


@dataclass(frozen=True, slots=True)
class Needs:
    """An instance, the number of lanes, and the workers that answer; None: it has no workers.

    `away` says why none of them can be asked.
    """

    instance: dg.DagsterInstance
    lanes: int
    workers: list[Worker] | None
    away: str | None = None

    @classmethod
    def of(cls, instance: dg.DagsterInstance, lanes: int) -> "Needs":
        """Asks the workers, where runs are handed to workers; changes nothing."""
        app = celery_of(instance)
        if app is None:
            return cls(instance, lanes, None)
        away = why_none_is_launched(instance)
        if away is not None:
            return cls(instance, lanes, [], away)
        queue = getattr(instance.run_launcher, "default_queue", "")
        try:
            return cls(instance, lanes, ask_workers(app, queue))
        except TransientError as exc:
            return cls(instance, lanes, [], str(exc))

    @property
    def least(self) -> int:
        """Runs at once."""
        return self.lanes + BESIDE_LANES

    @property
    def slots(self) -> int | None:
        """Of all workers, where they are enough; None: they are not, or there are none."""
        slots = sum(worker.slots for worker in self.workers or [] if worker.takes_runs)
        return slots if slots >= self.least else None

    @property
    def start_timeout(self) -> int:
        """Seconds."""
        return self.instance.run_monitoring_start_timeout_seconds

    def find_lacks(self) -> list[Lack]:
        """What the instance lacks."""
        return [
            Lack(key, consequence) for key, look in _LOOKS.items() for consequence in look(self)
        ]

    def lines_for(self, lacks: list[Lack]) -> str:
        """The part of dagster.yaml that has what lacks, as YAML; empty when no line has it."""
        shipped: dict[str, Any] = yaml.safe_load(
            shipped_config(self.lanes, on_postgres=True, by_celery=True)
        )
        if self.slots is not None:
            runs = shipped["concurrency"]["runs"]
            runs["max_concurrent_runs"] = min(runs["max_concurrent_runs"], self.slots)
        keys = dict.fromkeys(lack.key for lack in lacks if lack.key in shipped)
        part = {key: shipped[key] for key in keys}
        return yaml.safe_dump(part, sort_keys=False, width=96) if part else ""


def _look_at_concurrency(needs: Needs) -> Iterator[str]:
    queue = needs.instance.get_concurrency_config().run_queue_config
    if queue is None:
        yield (
            "runs are not queued: two ingest runs of one lane start together, and one of them "
            "works in vain (the ledger fences it)"
        )
        return
    limits = [item for item in queue.tag_concurrency_limits or [] if item.get("key") == LANE]
    if not any(_is_one_per_value(limit) for limit in limits):
        yield (
            f"no limit of one run per value of the tag {LANE}: ingest runs that are asked for "
            "while one is at work start at once, and step aside after some seconds of CPU"
        )
    most = queue.max_concurrent_runs
    if 0 <= most < needs.least:
        yield (
            f"max_concurrent_runs is {most}: {needs.lanes} "
            f"{'lane' if needs.lanes == 1 else 'lanes'} of ingestion and what runs beside need "
            f"{needs.least} or more, or runs that stay take every slot"
        )
    elif needs.slots is not None and not 0 <= most <= needs.slots:
        yield (
            f"max_concurrent_runs is {most} and the workers have {needs.slots} slots: a run that "
            f"finds none waits in the broker, and is failed after run_monitoring."
            f"start_timeout_seconds ({needs.start_timeout} s); in Dagster's queue it may wait"
        )


def _is_one_per_value(limit: Mapping[str, Any]) -> bool:
    value = limit.get("value")
    return limit.get("limit") == 1 and isinstance(value, Mapping) and bool(value.get(_UNIQUE))


def _look_at_monitoring(needs: Needs) -> Iterator[str]:
    if not needs.instance.run_monitoring_enabled:
        yield (
            "run monitoring is off: a run whose machine died stays STARTED for ever, and one that "
            "hangs at its start keeps its slot"
        )
    elif needs.workers is not None and needs.start_timeout <= 0:
        yield (
            "start_timeout_seconds is 0: a run that a worker took and that died with it before it "
            "began stays STARTING for ever, and its lane waits for it"
        )


def _look_at_launcher(needs: Needs) -> Iterator[str]:
    if needs.workers is None:
        return
    if needs.away:
        yield needs.away
    if (app := celery_of(needs.instance)) and (why := why_it_may_hang(app)):
        yield why
    backend = getattr(needs.instance.run_launcher, "backend", None) or ""
    if not backend or backend.startswith("rpc:"):
        yield (
            f"the result backend is {backend or 'not set'}: only the process that launched a run "
            "can ask it, so run monitoring takes every run that started for dead; it may be the "
            "broker's Redis"
        )


def _look_at_storage(needs: Needs) -> Iterator[str]:
    if needs.workers is not None and isinstance(needs.instance.run_storage, SqliteRunStorage):
        yield (
            "Dagster's storage is SQLite in a folder, which workers on other machines do not have: "
            "their runs never begin"
        )


def _look_at_slots(needs: Needs) -> Iterator[str]:
    if needs.workers is not None and not needs.away:
        yield from look_at_workers(needs.workers, needs.lanes, needs.start_timeout)


def _look_at_retention(needs: Needs) -> Iterator[str]:
    days = needs.instance.get_tick_retention_settings(InstigatorType.SENSOR)
    if days.get(TickStatus.SKIPPED, -1) < 0:
        yield (
            "skipped ticks are kept for ever: the sensor looks every five seconds, which is 17,000 "
            "rows a day in Dagster's database"
        )


def _look_at_logs(needs: Needs) -> Iterator[str]:
    shipped: dict[str, Any] = yaml.safe_load(shipped_config(1))
    wanted = set(shipped["python_logs"]["managed_python_loggers"])
    if not wanted <= {*needs.instance.managed_python_loggers}:
        yield (
            "what stages and clients say while a run works is not in that run's log: an outage, "
            "and what was sent again, cannot be read there afterwards"
        )


# By the key of dagster.yaml; of workers there is none.
_LOOKS: Mapping[str, Callable[[Needs], Iterator[str]]] = {
    "storage": _look_at_storage,
    "run_launcher": _look_at_launcher,
    "workers": _look_at_slots,
    "concurrency": _look_at_concurrency,
    "run_monitoring": _look_at_monitoring,
    "retention": _look_at_retention,
    "python_logs": _look_at_logs,
}


def main() -> None:
    """Print what an instance lacks as JSON."""
    home, lanes = sys.argv[1], int(sys.argv[2])
    with dg.DagsterInstance.from_config(home) as instance:
        needs = Needs.of(instance, lanes)
        lacks = needs.find_lacks()
        lines = needs.lines_for(lacks)
    found = {"lacks": [asdict(lack) for lack in lacks], "lines": lines}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
