"""What a check is: its name and question, what it costs, and how it looks.

Belongs here: the form. Does not belong here: what a check is shown as (`defs.checks`, the report,
the docs).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from iot_pipeline.core.checks.verdicts import CheckVerdict, Severity
from iot_pipeline.stages.checks.machinery.facts import Facts

KAFKA, CASSANDRA = "Kafka", "Cassandra"
BOTH = (KAFKA, CASSANDRA)
# What is checked, by the last part of its asset's key.
READINGS, HOURLY, DAILY = "sensor_data", "hourly_readings", "daily_readings"


@dataclass(frozen=True, slots=True)
class Check:
    """One check of an asset.

    Args:
        name: what people read in the UI; never changes.
        question: what is looked at, in sentences: the check's description.
        look: gathers the facts and judges them. None: there was no time for it this time, which is
            no verdict. Raises TransientError or PermanentError when it could not look.
        order: its place in lists.
        severity: the worst that it can be.
        is_free: comes with a run and asks nothing of its own; others ask bounded questions.
        asks: the servers it cannot do without.
        settings: its limits, by the settings' names; `*` stands for a quantity's.
        is_blocking: whether an ERROR fails the run.
        is_narrow_in_run: a run looks at its own part only, so it cannot clear what a whole look
            found.
        is_of_devices: it judges the devices by their own readings.
    """

    name: str
    question: str
    look: Callable[[Facts], CheckVerdict | None]
    order: int
    severity: Severity = Severity.WARN
    is_free: bool = False
    asks: tuple[str, ...] = BOTH
    settings: tuple[str, ...] = ()
    is_blocking: bool = False
    is_narrow_in_run: bool = False
    is_of_devices: bool = False
    asset: str = READINGS

    def named(self, verdict: CheckVerdict) -> CheckVerdict:
        """The verdict under this check's name."""
        return replace(verdict, name=self.name)
