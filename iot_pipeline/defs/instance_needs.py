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

from iot_pipeline.defs.instance import shipped_config
from iot_pipeline.defs.names import LANE

# Beside the lanes: one run that a person starts, and one of the schedules.
_BESIDE_LANES = 2
_UNIQUE = "applyLimitPerUniqueValue"


@dataclass(frozen=True, slots=True)
class Lack:
    """One thing that an instance lacks: the key of dagster.yaml, and what happens without it."""

    key: str
    consequence: str


def find_lacks(instance: dg.DagsterInstance, lanes: int) -> list[Lack]:
    """What the instance lacks, with as many lanes of ingestion as that; changes nothing."""
    return [
        Lack(key, consequence)
        for key, look in _LOOKS.items()
        for consequence in look(instance, lanes)
    ]


def lines_for(lacks: list[Lack], lanes: int) -> str:
    """The part of dagster.yaml that has what lacks, as YAML; empty when nothing does."""
    shipped: dict[str, Any] = yaml.safe_load(shipped_config(lanes))
    keys = dict.fromkeys(lack.key for lack in lacks)
    part = {key: shipped[key] for key in keys}
    return yaml.safe_dump(part, sort_keys=False, width=96) if part else ""


def _look_at_concurrency(instance: dg.DagsterInstance, lanes: int) -> Iterator[str]:
    queue = instance.get_concurrency_config().run_queue_config
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
    if 0 <= most < lanes + _BESIDE_LANES:
        yield (
            f"max_concurrent_runs is {most}: {lanes} {'lane' if lanes == 1 else 'lanes'} of "
            f"ingestion and what runs beside need {lanes + _BESIDE_LANES} or more, or runs that "
            "stay take every slot"
        )


def _is_one_per_value(limit: Mapping[str, Any]) -> bool:
    value = limit.get("value")
    return limit.get("limit") == 1 and isinstance(value, Mapping) and bool(value.get(_UNIQUE))


def _look_at_monitoring(instance: dg.DagsterInstance, _: int) -> Iterator[str]:
    if not instance.run_monitoring_enabled:
        yield (
            "run monitoring is off: a run whose machine died stays STARTED for ever, and one that "
            "hangs at its start keeps its slot"
        )


def _look_at_retention(instance: dg.DagsterInstance, _: int) -> Iterator[str]:
    days = instance.get_tick_retention_settings(InstigatorType.SENSOR)
    if days.get(TickStatus.SKIPPED, -1) < 0:
        yield (
            "skipped ticks are kept for ever: the sensor looks every five seconds, which is 17,000 "
            "rows a day in Dagster's database"
        )


def _look_at_logs(instance: dg.DagsterInstance, _: int) -> Iterator[str]:
    shipped: dict[str, Any] = yaml.safe_load(shipped_config(1))
    wanted = set(shipped["python_logs"]["managed_python_loggers"])
    if not wanted <= {*instance.managed_python_loggers}:
        yield (
            "what stages and clients say while a run works is not in that run's log: an outage, "
            "and what was sent again, cannot be read there afterwards"
        )


_LOOKS: Mapping[str, Callable[[dg.DagsterInstance, int], Iterator[str]]] = {
    "concurrency": _look_at_concurrency,
    "run_monitoring": _look_at_monitoring,
    "retention": _look_at_retention,
    "python_logs": _look_at_logs,
}


def main() -> None:
    """Print what an instance lacks as JSON."""
    home, lanes = sys.argv[1], int(sys.argv[2])
    with dg.DagsterInstance.from_config(home) as instance:
        lacks = find_lacks(instance, lanes)
    found = {"lacks": [asdict(lack) for lack in lacks], "lines": lines_for(lacks, lanes)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
