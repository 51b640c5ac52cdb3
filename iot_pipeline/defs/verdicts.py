"""Verdicts as Dagster shows them: which row of a check a person sees, and that it is the newest.

The UI takes the newest row of a check, and shows it only if it is of the latest materialization's
run, or names that materialization as its target; else the check reads "Not Evaluated". One run has
one row per check, rewritten in place. So a run writes all its evaluations first, naming the
materialization before it, then its one materialization; every other verdict is a new row that
names the latest materialization, written again if another one came meanwhile.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData as Target,
)

from iot_pipeline.core.checks.verdicts import CheckVerdict, Severity, not_looked
from iot_pipeline.core.words import as_written, plain
from iot_pipeline.defs.names import SERVER_AWAY
from iot_pipeline.stages.checks.machinery.check import Check
from iot_pipeline.stages.checks.machinery.registry import checks_of

# A check's metadata: what to look at first the next time, when it was looked at, and whether only a
# look at all there is can turn it green.
SUSPECTS = "suspects"
WORST_DEVICES = "worst_devices"
LOOKED_AT = "looked_at"
NEEDS_WHOLE_LOOK = "needs_whole_look"
_NOT_YET = (
    "Not looked at yet: no run had the time. The job checks has, and so has its schedule "
    "checks_every_5_minutes."
)
_ONLY_WHOLE = (
    "It was red, and a run sees only its own part: only a look at all there is can turn it green. "
    "Launch the job checks."
)
SEVERITIES = {
    Severity.WARN: dg.AssetCheckSeverity.WARN,
    Severity.ERROR: dg.AssetCheckSeverity.ERROR,
}
# The newest execution may be one under way; a few before it may have ended without a verdict.
_EXECUTIONS = 5
# A verdict that has not changed is written again when it is this old. A red one often, so that its
# numbers and devices are those of now; a green one seldom, because rows of no run stay in Dagster's
# database.
SAY_AGAIN_SECONDS = 60.0
SAY_GREEN_AGAIN_SECONDS = 600.0
# Another run may materialize while a verdict is written; twice in a row is not to be expected.
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Shown:
    """A verdict in Dagster's words, as it stands in its history or is about to.

    `run_id` is empty for a row that is no run's, or not written yet; `written_at` is when the row
    was made, in seconds since 1970.
    """

    check: str
    passed: bool
    severity: dg.AssetCheckSeverity
    description: str
    metadata: Mapping[str, dg.MetadataValue[Any]]
    is_blocking: bool = False
    run_id: str = ""
    written_at: float = 0.0

    @property
    def suspects(self) -> list[str]:
        """What it found wrong: to be looked at first the next time."""
        value = self._value(SUSPECTS)
        return [str(item) for item in value] if isinstance(value, list) else []

    @property
    def needs_whole_look(self) -> bool:
        """Whether only a look at all there is can turn it green again."""
        return bool(self._value(NEEDS_WHOLE_LOOK))

    @property
    def looked_at(self) -> datetime | None:
        """When that look was; None: it could not look."""
        value = self._value(LOOKED_AT)
        return datetime.fromtimestamp(value, UTC) if isinstance(value, (int, float)) else None

    @property
    def away(self) -> str:
        """The server whose silence kept it from looking; empty: there was none."""
        return str(self._value(SERVER_AWAY) or "")

    @property
    def worst_devices(self) -> str:
        """The table of the worst devices as markdown; empty: there are none."""
        return str(self._value(WORST_DEVICES) or "")

    def again(self) -> "Shown":
        """The same once more, because there is no newer look; it has ended a run already."""
        at = self.looked_at
        when = f" (Looked at {at:%Y-%m-%d %H:%M:%S} UTC.)" if at else ""
        sentence = self.description.removesuffix(when)
        return replace(self, description=f"{sentence}{when}", is_blocking=False)

    def _value(self, name: str) -> Any:
        found = self.metadata.get(name)
        return None if found is None else found.value


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The checks of one asset in Dagster's history: what a person sees of them, and changing it."""

    instance: dg.DagsterInstance
    asset_key: dg.AssetKey

    def read(self, checks: Sequence[Check] | None = None) -> dict[str, Shown]:
        """The newest verdict of each of these checks (None: of all) that has one."""
        found: dict[str, Shown] = {}
        for check in checks_of() if checks is None else checks:
            executions = self.instance.event_log_storage.get_asset_check_execution_history(
                dg.AssetCheckKey(self.asset_key, check.name), limit=_EXECUTIONS
            )
            for execution in executions:
                seen = execution.evaluation
                # One that was only planned, or failed before it was judged, says nothing.
                if isinstance(seen, dg.AssetCheckEvaluation):
                    found[check.name] = Shown(
                        check.name,
                        seen.passed,
                        seen.severity,
                        as_written(seen.description or ""),
                        seen.metadata,
                        run_id=execution.run_id,
                        written_at=execution.create_timestamp,
                    )
                    break
        return found

    def latest_target(self) -> Target | None:
        """The materialization that a verdict of now is shown with; None: there is none yet."""
        records = self.instance.fetch_materializations(self.asset_key, limit=1).records
        if not records:
            return None
        record = records[0]
        return Target(
            storage_id=record.storage_id, run_id=record.run_id, timestamp=record.timestamp
        )

    def as_event(self, one: Shown, target: Target | None) -> dg.AssetCheckEvaluation:
        """As an event: shown as long as `target` is the latest materialization."""
        return dg.AssetCheckEvaluation(
            asset_key=self.asset_key,
            check_name=one.check,
            passed=one.passed,
            severity=one.severity,
            description=plain(one.description),
            metadata=one.metadata,
            blocking=one.is_blocking,
            target_materialization_data=target,
        )

    def show_now(
        self,
        chosen: Iterable[Shown],
        write: Callable[[dg.AssetCheckEvaluation], None] | None = None,
    ) -> None:
        """Write each as what a person sees now, whatever run materializes meanwhile.

        `write` is an op's `log_event` for the row of a run; None: rows of no run.
        """
        for one in chosen:
            target = self.latest_target()
            for _ in range(_TRIES):
                event = self.as_event(one, target)
                if write is None:
                    self.instance.report_runless_asset_event(event)
                else:
                    write(event)
                latest = self.latest_target()
                if latest == target:
                    break
                target = latest

    def show_again_where_hidden(self, run_id: str) -> None:
        """After a run's materialization: its own rows are seen, those written between are not."""
        self.show_now([one.again() for one in self.read().values() if one.run_id != run_id])


def suspects_of(shown: Mapping[str, Shown]) -> dict[str, Sequence[str]]:
    """What each check found wrong the last time, to be looked at in any case."""
    return {name: one.suspects for name, one in shown.items() if one.suspects}


def is_first_look(shown: Mapping[str, Shown]) -> bool:
    """Whether a check has no row yet: a run then gives them more time, once."""
    return any(check.name not in shown for check in checks_of())


def choose_shown(
    verdicts: Iterable[CheckVerdict],
    before: Mapping[str, Shown],
    looked_at: datetime,
    *,
    is_whole: bool,
    checks: Sequence[Check] | None = None,
) -> list[Shown]:
    """What is to be shown of each of `checks`, in order.

    A run cannot clear what only a whole look can see, and has no verdict where it had no time:
    then the last one stands, with the time of its own look.

    Args:
        verdicts: of a look, at most one per check.
        before: the newest verdicts until now.
        looked_at: when the look was, aware.
        is_whole: whether it was a look at all there is.
        checks: None: all.
    """
    by_name = {verdict.name: verdict for verdict in verdicts}
    chosen = []
    for check in checks_of() if checks is None else checks:
        verdict, last = by_name.get(check.name), before.get(check.name)
        if verdict is not None and last is not None and not verdict.is_looked:
            # What was wrong is looked at again, though it could not be now.
            verdict = replace(verdict, suspects=verdict.suspects or last.suspects)
        needs_whole = _needs_whole_look(check, verdict, last, is_whole=is_whole)
        if verdict is not None and verdict.passed and needs_whole:
            verdict = None  # it saw a part: that is no answer
        if verdict is None and last is not None and last.looked_at is not None:
            chosen.append(last.again())
            continue
        if verdict is None:
            verdict = not_looked(_ONLY_WHOLE if needs_whole else _NOT_YET)
            verdict = replace(verdict, suspects=last.suspects if last is not None else ())
        chosen.append(_in_words_of_dagster(check, verdict, looked_at, needs_whole))
    return chosen


def _needs_whole_look(
    check: Check, verdict: CheckVerdict | None, last: Shown | None, *, is_whole: bool
) -> bool:
    """Whether only a look at all there is can turn the check green: it was red since the last."""
    if not check.is_narrow_in_run:
        return False
    if verdict is not None and verdict.is_looked and (is_whole or not verdict.passed):
        return not verdict.passed
    return last is not None and last.needs_whole_look


def _in_words_of_dagster(
    check: Check, verdict: CheckVerdict, looked_at: datetime, needs_whole_look: bool
) -> Shown:
    metadata: dict[str, Any] = {}
    if verdict.worst.rows:
        metadata[WORST_DEVICES] = dg.MetadataValue.md(verdict.worst.markdown())
    for name, value in verdict.numbers.items():
        if isinstance(value, int):
            metadata[name] = dg.MetadataValue.int(value)
        else:
            metadata[name] = dg.MetadataValue.float(value)
    if verdict.suspects:
        metadata[SUSPECTS] = dg.MetadataValue.json(list(verdict.suspects))
    if verdict.is_looked:
        metadata[LOOKED_AT] = dg.MetadataValue.timestamp(looked_at)
    if needs_whole_look:
        metadata[NEEDS_WHOLE_LOOK] = dg.MetadataValue.bool(True)
    if verdict.away:
        metadata[SERVER_AWAY] = dg.MetadataValue.text(verdict.away)
    return Shown(
        check.name,
        verdict.passed,
        SEVERITIES[verdict.severity],
        verdict.sentence,
        metadata,
        is_blocking=check.is_blocking and (verdict.passed or verdict.severity is Severity.ERROR),
    )


def is_news(one: Shown, last: Shown | None) -> bool:
    """Whether a person would read it differently at once: another colour, or about others."""
    return last is None or _essence(one) != _essence(last)


def _essence(one: Shown) -> tuple[object, ...]:
    return one.passed, one.severity, one.looked_at is None, sorted(one.suspects)


def log_shown(
    context: dg.OpExecutionContext | dg.AssetExecutionContext, shown: Sequence[Shown]
) -> None:
    for one in shown:
        if not one.passed:
            context.log.warning("%s: %s", one.check, one.description)
    passed = sum(one.passed for one in shown)
    context.log.info("%d of %d checks passed", passed, len(shown))
