"""Refuse nonsense when a run is launched: Dagster alone checks types there, not bounds."""

from collections.abc import Callable
from typing import Any, TypeVar

import dagster as dg
from pydantic import ValidationError

from iot_pipeline.errors import ConfigurationError

_C = TypeVar("_C", bound=dg.Config)


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
        try:
            config = config_class(**raw)
            check(config)
        except ValidationError as exc:
            raise dg.DagsterInvariantViolationError(_explain(exc)) from None
        except ConfigurationError as exc:
            raise dg.DagsterInvariantViolationError(str(exc)) from None
        return {"ops": {op_name: {"config": dict(config)}}}

    # An error of Dagster's own passes the mapping as it is; any other is shown as "the mapping
    # has thrown an unexpected error", with the reason a click further.
    return dg.ConfigMapping(
        config_fn=config_of_op, config_schema=config_class.to_config_schema().as_field()
    )


def _explain(exc: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, error['loc']))} {error['input']}: {error['msg']}"
        for error in exc.errors()
    )
