"""Checks that look alike: those on devices at the fleet, those on rollups at their rows."""

from collections.abc import Callable, Sequence

from iot_pipeline.core.checks.verdicts import CheckVerdict, Severity
from iot_pipeline.core.rollups.comparison import DayComparison
from iot_pipeline.stages.checks.check import CASSANDRA, DAILY, HOURLY, Check, Cost
from iot_pipeline.stages.checks.facts import Facts


def on_devices(name: str, question: str, *, order: int, settings: tuple[str, ...]) -> Check:
    """A check whose verdict is one of `core.fleet.verdicts`."""

    def look(facts: Facts) -> CheckVerdict:
        return facts.devices[name]

    return Check(name, question, look, Severity.WARN, Cost.BOUNDED, order, settings=settings)


def on_rollups(
    name: str,
    question: str,
    judge: Callable[[Sequence[DayComparison]], CheckVerdict],
    *,
    order: int,
) -> tuple[Check, ...]:
    """The check on the hourly rollups, and the same on the daily ones."""

    def look_at(asset: str) -> Callable[[Facts], CheckVerdict]:
        def look(facts: Facts) -> CheckVerdict:
            return judge(facts.compared.hourly if asset == HOURLY else facts.compared.daily)

        return look

    return tuple(
        Check(
            name,
            question,
            look_at(asset),
            Severity.ERROR,
            Cost.BOUNDED,
            order + number,
            asks=(CASSANDRA,),
            settings=("IOT_CHECK_SECONDS",),
            asset=asset,
        )
        for number, asset in enumerate((HOURLY, DAILY))
    )
