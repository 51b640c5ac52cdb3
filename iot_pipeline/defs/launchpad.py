"""Ranges in run config, and nonsense refused at launch: Dagster checks types there, not bounds."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import dagster as dg
from pydantic import Field, ValidationError

from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.errors import ConfigurationError, PlanError

_C = TypeVar("_C", bound=dg.Config)


class RangeConfig(dg.Config):
    """Offsets [start, end) of one Kafka partition."""

    start: int = Field(ge=0, description="First offset, 0 or more.")
    end: int = Field(ge=1, description="The offset after the last one, above start.")


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


def _accept(_: object) -> None:
    return None


def checked_config(
    config_class: type[_C], op_name: str, check: Callable[[_C], object] = _accept
) -> dg.ConfigMapping:
    """Config of a whole job that is the config of its op, checked before there is a run.

    Args:
        config_class: its fields become those of the launchpad, with defaults and descriptions.
        op_name: who gets it.
        check: raises ConfigurationError for fields that make no sense together.
    """

    def config_of_op(raw: dict[str, Any]) -> dict[str, Any]:
        return {"ops": {op_name: {"config": _checked(config_class, raw, check).model_dump()}}}

    # An error of Dagster's own passes the mapping as it is; any other is shown as "the mapping
    # has thrown an unexpected error", with the reason a click further.
    return dg.ConfigMapping(
        config_fn=config_of_op, config_schema=config_class.to_config_schema().as_field()
    )


def refuse_at_launch(
    assets: dg.AssetsDefinition, config_class: type[_C], check: Callable[[_C], object] = _accept
) -> None:
    """Refuse nonsense in an asset's config where `checked_config` refuses that of a job.

    For what has no job of its own to map: Materialize gives the op its config as it is.
    """
    shape = assets.op.config_schema.as_field().config_type

    def post_process(value: dict[str, Any]) -> dict[str, Any]:
        _checked(config_class, value, check)
        return value

    # What Dagster calls on the way to an execution plan, which it makes before there is a run.
    # Types alone are compared earlier, with a snapshot, where no code of ours can be asked.
    shape.post_process = post_process  # type: ignore[method-assign]


def _checked(config_class: type[_C], raw: dict[str, Any], check: Callable[[_C], object]) -> _C:
    # An error of Dagster's own is shown as it is, see `checked_config`.
    try:
        config = config_class(**raw)
        check(config)
    except ValidationError as exc:
        raise dg.DagsterInvariantViolationError(_explain(exc)) from None
    except (ConfigurationError, PlanError) as exc:
        raise dg.DagsterInvariantViolationError(str(exc)) from None
    return config


def _explain(exc: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, error['loc']))} {error['input']}: {error['msg']}"
        for error in exc.errors()
    )
