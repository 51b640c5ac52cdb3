"""How the pipeline and its fleet are, in answers that a city's operator understands."""

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from iot_pipeline.core.checks.device_table import count_devices
from iot_pipeline.core.checks.verdicts import CheckVerdict, Severity
from iot_pipeline.core.fleet.problems import Trouble
from iot_pipeline.core.fleet.view import FleetView
from iot_pipeline.core.ledger.chain import Counts, Outcome
from iot_pipeline.core.ledger.losses import say_losses
from iot_pipeline.core.proof.audit_result import DEFECTS, Fate
from iot_pipeline.core.proof.dead_letters import dead_letter_topic_of
from iot_pipeline.core.reading.lag import TotalLag
from iot_pipeline.core.reading.messages import Reason
from iot_pipeline.core.times import in_words
from iot_pipeline.core.words import counted

REASONS_IN_WORDS = {
    Reason.NOT_JSON: "not readable as JSON",
    Reason.UNDECODABLE: "not readable in the declared format",
    Reason.MISSING_FIELD: "a field is missing",
    Reason.WRONG_TYPE: "a field is not a number or a name",
    Reason.OUT_OF_RANGE: "a value that cannot be, such as 200 °C or a date in 1970",
    Reason.TOO_LARGE: "too large a message",
    Reason.NO_VALUE: "an empty message",
    Reason.REJECTED_BY_CASSANDRA: "the database refused it",
}
# Up to here "behind" is what micro-batches are.
_BEHIND_SECONDS = 60.0
_OLD_AUDIT_HOURS = 48.0


class Mood(enum.StrEnum):
    GOOD = "good"
    LOOK = "look"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class LastAudit:
    """What the newest audit proved: offsets by fate."""

    started_at: datetime
    fates: Mapping[str, int]

    @property
    def records(self) -> int:
        """Offsets that it judged; strays are rows."""
        return sum(count for fate, count in self.fates.items() if fate != Fate.STRAY)

    @property
    def defects(self) -> int:
        return sum(self.fates.get(fate, 0) for fate in DEFECTS)


@dataclass(frozen=True, slots=True)
class Answer:
    """One question and its answer; `more` are further sentences."""

    question: str
    mood: Mood
    answer: str
    more: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Health:
    """Every fact of a report.

    `totals` and `lost` (offsets by outcome) are of the whole ledger, `letters` of the last day's
    newest ones by reason, `flaws` places where the ledger does not hold.
    """

    now: datetime
    topic: str
    totals: Counts
    lost: Mapping[Outcome, int]
    flaws: Sequence[str]
    lag: TotalLag
    audit: LastAudit | None
    letters: Mapping[str, int]
    view: FleetView
    verdicts: Sequence[CheckVerdict]

    @property
    def red(self) -> list[CheckVerdict]:
        """Checks that did not pass, the serious ones first."""
        failed = [verdict for verdict in self.verdicts if not verdict.passed]
        return sorted(failed, key=lambda verdict: verdict.severity is not Severity.ERROR)

    @property
    def answers(self) -> list[Answer]:
        return [Answer(question, *judge(self)) for question, judge in _QUESTIONS.items()]

    @property
    def mood(self) -> Mood:
        moods = {answer.mood for answer in self.answers}
        return next(mood for mood in (Mood.BAD, Mood.LOOK, Mood.GOOD) if mood in moods)


# What an Answer says: its mood, the answer, and further sentences.
_Said = tuple[Mood, str] | tuple[Mood, str, Sequence[str]]


def _everything_stored(health: Health) -> _Said:
    counts, lag, audit = health.totals, health.lag, health.audit
    more = [
        f"{counts.stored:,} readings are in the table, out of {counts.accounted - counts.holes:,} "
        "messages that were read from Kafka."
    ]
    if counts.superseded:
        more.append(
            f"{counts.superseded:,} messages said something else of the same device and moment "
            "than another one; the one that arrived in the latest millisecond counts."
        )
    if counts.repeated:
        more.append(f"{counts.repeated:,} messages repeated a reading word for word: one row each.")
    if counts.ignored:
        more.append(f"{counts.ignored:,} messages are known and no readings, as it is declared.")
    if counts.aged_out:
        more.append(f"{counts.aged_out:,} were older than readings are kept, and left out.")
    if audit is None:
        more.append("No audit was made yet: `iot audit --all` proves it message by message.")
    else:
        hours = (health.now - audit.started_at).total_seconds() / 3600
        old = ", which is a while ago: `iot audit --all`" if hours > _OLD_AUDIT_HOURS else ""
        more.append(
            f"The last audit, {in_words(hours * 3600)} ago, compared {audit.records:,} messages "
            f"with the table one by one and found {audit.defects:,} wrong or missing{old}."
        )
    if health.flaws:
        return Mood.BAD, f"No: the books do not add up. {health.flaws[0]}.", more
    if audit is not None and audit.defects:
        answer = f"No: the last audit found {audit.defects:,} readings lost, torn or unexplained."
        return Mood.BAD, answer, more
    if health.lost:
        answer = (
            f"No: messages were left unread: {say_losses(health.lost)}. `iot losses` lists them."
        )
        return Mood.BAD, answer, more
    if not counts.accounted:
        return Mood.LOOK, "Nothing was ingested yet.", more
    if lag.lag_seconds > _BEHIND_SECONDS:
        answer = (
            f"All but the newest: {lag.lag_offsets:,} messages wait, the oldest since "
            f"{in_words(lag.lag_seconds)}. Is ingestion running?"
        )
        return Mood.LOOK, answer, more
    waiting = f"; {lag.lag_offsets:,} are on their way" if lag.lag_offsets else ""
    return Mood.GOOD, f"Yes, every message that arrived{waiting}.", more


def _who_is_silent(health: Health) -> _Said:
    fleet = health.view.fleet
    silent = fleet.problems[Trouble.SILENT]
    left_out = f"{fleet.unlooked:,} of {fleet.known:,} devices were not looked at."
    more = [left_out] if fleet.unlooked else []
    if not fleet.known:
        return Mood.LOOK, "No device has sent a reading in the last days."
    if not silent:
        sentence = f"No device: all {len(fleet.states):,} devices report."
        return Mood.GOOD, sentence, more
    names = ", ".join(problem.device_id for problem in silent)
    shown = names if len(names) <= 160 else names[:160].rsplit(", ", 1)[0] + " and others"
    answer = f"{len(silent):,} of {fleet.known:,} devices: {shown}."
    return Mood.LOOK, answer, more


def _how_late(health: Health) -> _Said:
    fleet = health.view.fleet
    delays = fleet.delays
    late, clocks = fleet.problems[Trouble.LATE], fleet.problems[Trouble.CLOCK]
    said = [f"{counted(len(late), 'device is', 'devices are')} late"] if late else []
    if clocks:
        said.append(f"{counted(len(clocks), 'device has', 'devices have')} a wrong clock")
    if not delays.total:
        return Mood.LOOK, "No reading arrived in the last hour."
    more = [
        f"By {delays.total:,} readings of the last hours: 19 of 20 arrive within "
        f"{delays.in_words(0.95)}, the slowest took {delays.in_words(1.0)}."
    ]
    usual = f"Half of them within {delays.in_words(0.5)} of being measured"
    if said:
        return Mood.LOOK, f"{usual}, but {' and '.join(said)}.", more
    return Mood.GOOD, f"{usual}.", more


def _what_was_refused(health: Health) -> _Said:
    rejected, stored = health.view.flow.rejected, health.view.flow.stored
    if not rejected:
        return Mood.GOOD, "Nothing in the last day."
    share = rejected / (rejected + stored)
    kept = [
        f"They are kept whole in `{dead_letter_topic_of(health.topic)}`; `iot dead-letters list` "
        "shows them, and "
        "`iot dead-letters replay` stores what can be read after a rule was changed."
    ]
    is_much = any(not verdict.passed and "dead_letter" in verdict.name for verdict in health.red)
    answer = f"{rejected:,} messages of the last day could not be readings ({share:.2%})."
    return Mood.LOOK if is_much or share > 0.01 else Mood.GOOD, answer, kept


def _what_to_do(health: Health) -> _Said:
    red = health.red
    troubled = len(health.view.fleet.worst)
    if not red and troubled:
        answer = (
            f"Look at {count_devices(troubled)}, listed below; "
            f"all {len(health.verdicts)} checks pass."
        )
        return Mood.LOOK, answer
    if not red:
        return Mood.GOOD, f"Nothing: all {len(health.verdicts)} checks pass."
    is_bad = any(verdict.severity is Severity.ERROR for verdict in red)
    names = ", ".join(verdict.name for verdict in red)
    answer = f"{len(red)} of {len(health.verdicts)} checks ask for attention: {names}."
    return Mood.BAD if is_bad else Mood.LOOK, answer


_QUESTIONS: Mapping[str, Callable[[Health], _Said]] = {
    "Is everything stored?": _everything_stored,
    "Who is silent?": _who_is_silent,
    "How late do readings arrive?": _how_late,
    "What was refused?": _what_was_refused,
    "What is to be done?": _what_to_do,
}
