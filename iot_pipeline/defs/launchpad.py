"""Jobs and what they are asked: nonsense is refused at launch, where Dagster checks types alone.

A config refuses what makes no sense together in a validator of its own, with a ConfigurationError
or a PlanError.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg
from pydantic import ConfigDict, Field, ValidationError

from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.defs.names import BESIDE, MAX_RUNTIME, NO_RETRY, SLOT
from iot_pipeline.defs.pipeline import Pipeline
from iot_pipeline.errors import ConfigurationError, PlanError

# A process per step would cost seconds per run, and Terminate would reach none of them.
EXECUTOR = dg.in_process_executor


class Asked(dg.Config):
    """What a launchpad asks for; below a field stands what it means, on any number of lines."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        for field in cls.model_fields.values():
            field.description = " ".join((field.description or "").split())


class Throttled(Asked):
    """Of a job that writes readings: how fast it may."""

    max_rows_per_second: int | None = Field(None, ge=1)
    """Rows a second that the run writes at most. Empty: what `iot throttle` set, or
    IOT_MAX_ROWS_PER_SECOND; `iot throttle` changes it while the run is at work."""
    max_bytes_per_second: int | None = Field(None, ge=1)
    """The same in bytes of the requests to Cassandra, about."""


class RangeConfig(Asked):
    """Offsets [start, end) of one Kafka partition."""

    start: int = Field(ge=0)
    """First offset, 0 or more."""
    end: int = Field(ge=1)
    """The offset after the last one, above start."""


def as_ranges(ranges: Mapping[str, RangeConfig]) -> list[OffsetRange]:
    """The ranges that a launchpad asks for, by Kafka partition.

    Raises:
        PlanError: a partition that is no number, or an end that is not above its start.
    """
    for partition, item in ranges.items():
        if not partition.isdecimal() or item.end <= item.start:
            raise PlanError(
                f"ranges {partition}:{item.start}-{item.end}: expected the number of a Kafka "
                "partition, and an end above the start"
            )
    return [OffsetRange(int(p), item.start, item.end) for p, item in ranges.items()]


def job_of(
    pipeline: Pipeline,
    *ops: dg.OpDefinition,
    name: str,
    description: str,
    max_seconds: int,
    config: type[dg.Config] | None = None,
    slot: str = BESIDE,
) -> dg.JobDefinition:
    """A job of ops that do not wait for each other; not retried, and ended after `max_seconds`.

    It never takes the place of ingestion: `slot` limits how many of its kind run. `config` is that
    of the whole job, given to the first op and checked before there is a run.
    """

    @dg.job(
        name=pipeline.called(name),
        config=config and _checked_config(config, ops[0].name),  # type: ignore[arg-type]
        description=description,
        tags={MAX_RUNTIME: str(max_seconds), SLOT: slot, **NO_RETRY, **pipeline.tags},
        executor_def=EXECUTOR,
    )
    def job() -> None:
        for op in ops:
            op()

    return job


def schedule_of(
    pipeline: Pipeline, job: dg.JobDefinition, *, name: str, cron: str, description: str
) -> dg.ScheduleDefinition:
    """A schedule of a job, by UTC; off until a person, or `make demo`, starts it."""
    return dg.ScheduleDefinition(
        name=pipeline.called(name),
        job=job,
        cron_schedule=cron,
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description=description,
    )


def _checked_config(config_class: type[dg.Config], op_name: str) -> dg.ConfigMapping:
    def config_of_op(raw: dict[str, Any]) -> dict[str, Any]:
        return {"ops": {op_name: {"config": _checked(config_class, raw).model_dump()}}}

    # An error of Dagster's own passes the mapping as it is; any other is shown as "the mapping
    # has thrown an unexpected error", with the reason a click further.
    return dg.ConfigMapping(
        config_fn=config_of_op, config_schema=config_class.to_config_schema().as_field()
    )


def refuse_at_launch(assets: dg.AssetsDefinition, config_class: type[dg.Config]) -> None:
    """Refuse nonsense in an asset's config where `job_of` refuses that of a job.

    For what has no job of its own to map: Materialize gives the op its config as it is.
    """
    shape = assets.op.config_schema.as_field().config_type

    def post_process(value: dict[str, Any]) -> dict[str, Any]:
        _checked(config_class, value)
        return value

    # What Dagster calls on the way to an execution plan, which it makes before there is a run.
    # Types alone are compared earlier, with a snapshot, where no code of ours can be asked.
    shape.post_process = post_process  # type: ignore[method-assign]


def _checked(config_class: type[dg.Config], raw: dict[str, Any]) -> dg.Config:
    # An error of Dagster's own is shown as it is, see `_checked_config`.
    try:
        return config_class(**raw)
    except ValidationError as exc:
        raise dg.DagsterInvariantViolationError(_explain(exc)) from None
    except (ConfigurationError, PlanError) as exc:
        raise dg.DagsterInvariantViolationError(str(exc)) from None


def _explain(exc: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, error['loc']))} {error['input']}: {error['msg']}"
        for error in exc.errors()
    )
