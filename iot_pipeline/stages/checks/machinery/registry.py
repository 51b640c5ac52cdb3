"""The list of all checks, and looking at any of them.

Dagster's specs, a run's checks, the scheduled ones, the report and the docs' table come from here.
"""

import functools
import importlib
import pkgutil
from collections.abc import Iterable, Iterator

from iot_pipeline.core.checks.verdicts import COULD_NOT_LOOK, CheckVerdict, not_looked
from iot_pipeline.errors import PipelineError, TransientError
from iot_pipeline.stages import checks as _checks
from iot_pipeline.stages.checks.machinery.check import BOTH, READINGS, Check
from iot_pipeline.stages.checks.machinery.facts import Facts


@functools.cache
def all_checks() -> tuple[Check, ...]:
    """The CHECK, or all CHECKS, of each module of `stages.checks`, in order."""
    found: list[Check] = []
    for module in pkgutil.iter_modules(_checks.__path__):
        names = vars(importlib.import_module(f"{_checks.__name__}.{module.name}"))
        found += [*names.get("CHECKS", ()), *([names["CHECK"]] if "CHECK" in names else [])]
    return tuple(sorted(found, key=lambda check: check.order))


@functools.cache
def checks_of(asset: str = READINGS) -> tuple[Check, ...]:
    """Those of one asset, the readings themselves if none is named."""
    return tuple(check for check in all_checks() if check.asset == asset)


def look_at(checks: Iterable[Check], facts: Facts) -> Iterator[CheckVerdict]:
    """The verdict of each check; of one that had no time to look, none.

    A check that cannot look does not hide those after it: its verdict says so. A server that did
    not answer one of them is not waited for again.
    """
    away: dict[str, str] = {}
    for check in checks:
        gone = next((server for server in check.asks if server in away), None)
        if gone is not None:
            yield check.named(not_looked(away[gone], away=gone))
            continue
        try:
            verdict = check.look(facts)
        except PipelineError as exc:
            why = _why(exc)
            if exc.away in BOTH:
                away[exc.away] = why
            yield check.named(not_looked(why, away=exc.away))
        else:
            if verdict is not None:
                yield check.named(verdict)


def _why(exc: PipelineError) -> str:
    remedy = " The next look comes by itself." if isinstance(exc, TransientError) else ""
    return f"{COULD_NOT_LOOK}{' '.join(str(exc).split()).rstrip('.')}.{remedy}"
