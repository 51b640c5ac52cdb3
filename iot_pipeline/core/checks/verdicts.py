"""What a check answers: passed, failed, or not looked at, with what to do next."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from iot_pipeline.core.checks.device_table import DeviceTable

Numbers = Mapping[str, int | float]


class Severity(enum.StrEnum):
    """WARN: look when you can. ERROR: readings are missing, wrong, or not accounted for."""

    WARN = "warn"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class CheckVerdict:
    """One check's answer; `severity` matters when it has not passed.

    `numbers` plot over time, so every verdict of a check carries the same ones. `sentence` says
    what was found and, when it has not passed, what to do next. `suspects` are looked at first the
    next time. `name` is the check's: `Check.named` fills it in.

    A verdict is passed, failed, or, with `is_looked` False, neither: the check could not look, and
    that is never green. `away` is then the server that did not answer, if that was why.
    """

    passed: bool
    sentence: str
    numbers: Numbers = field(default_factory=dict)
    worst: DeviceTable = field(default_factory=DeviceTable)
    suspects: Sequence[str] = ()
    severity: Severity = Severity.WARN
    is_looked: bool = True
    name: str = ""
    away: str = ""

    @property
    def is_refused(self) -> bool:
        """Whether it could not look, and no server that comes back changes that."""
        return not self.is_looked and not self.away and self.sentence.startswith(COULD_NOT_LOOK)


# How the sentence of a check begins that could not look; the reason follows.
COULD_NOT_LOOK = "Could not look: "


def not_looked(why: str, numbers: Numbers | None = None, away: str = "") -> CheckVerdict:
    """The answer of a check that could not look; `why` is a sentence, `away` a server."""
    return CheckVerdict(False, why, numbers or {}, is_looked=False, away=away)
