"""What a demo tells: two looks at it in, one line per thing that changed out.

Belongs here: what is worth a line, and its words. Does not belong here: looking (`cli.demo_watch`),
the time in front of a line.
"""

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from iot_pipeline.core.words import counted

OVER = ("SUCCESS", "FAILURE", "CANCELED")
_PLACEHOLDER = "DEVICE"
# "Implausible values from kitchen_1, kitchen_2 (...)"; where a check has no table of devices.
_NAMED = re.compile(r" (?:from|of) ([^\s,:;]+)[,:]")


@dataclass(frozen=True, slots=True)
class RunSeen:
    """A run of the ingest sensor. `status` is Dagster's; `stays`: it follows the topic."""

    run_id: str
    status: str
    stays: bool

    @property
    def is_over(self) -> bool:
        return self.status in OVER


@dataclass(frozen=True, slots=True)
class CheckSeen:
    """A check's newest verdict; `device_id` is the worst device, empty where it names none."""

    passed: bool
    sentence: str
    device_id: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """The demo at one moment.

    `runs` and `checks` by id and name; of checks the verdicts of those that looked, `check_count`
    is how many there are. `unlooked`: those that could not look, and why; their verdicts before
    that are not forgotten. `servers`: whether each answers. `stored` and `latency_ms` are of the
    newest report. `fleet_end` is the end of the fleet's log, empty while it sends.
    """

    runs: Mapping[str, RunSeen] = field(default_factory=dict)
    checks: Mapping[str, CheckSeen] = field(default_factory=dict)
    check_count: int = 0
    unlooked: Mapping[str, str] = field(default_factory=dict)
    servers: Mapping[str, bool] = field(default_factory=dict)
    stored: int = 0
    latency_ms: float | None = None
    fleet_end: str = ""

    @property
    def is_all_green(self) -> bool:
        green = sum(check.passed for check in self.checks.values())
        return 0 < self.check_count == green and not self.unlooked

    def after(self, before: "Look") -> "Look":
        """This look with what only the one before knew: verdicts and runs are not forgotten."""
        return replace(
            self,
            runs={**before.runs, **self.runs},
            checks={**before.checks, **self.checks},
            servers={**before.servers, **self.servers},
            stored=self.stored or before.stored,
        )


def tell_changes(before: Look, now: Look, command: str) -> list[str]:
    """One line per change that matters between two looks; none when nothing changed.

    `command` is how a person calls `iot` here, such as `.venv/bin/iot`.
    """
    return [
        *_servers(before, now, command),
        *_runs(before, now),
        *_readings(before, now),
        *_checks(before, now, command),
        *_fleet(before, now),
    ]


def _servers(before: Look, now: Look, command: str) -> Iterator[str]:
    for name, answers in sorted(now.servers.items()):
        did = before.servers.get(name, True)
        if did and not answers:
            yield f"{name} does not answer; `{command} up` starts it again"
        elif answers and not did:
            goes_on = all(now.servers.values())
            yield f"{name} answers again{'; ingestion goes on where it was' if goes_on else ''}"


def _runs(before: Look, now: Look) -> Iterator[str]:
    for run_id, run in now.runs.items():
        was = before.runs.get(run_id)
        if was == run:
            continue
        name = f"run {run_id[:8]}"
        # A run that drains comes every few seconds and ends by itself: only its failure is news.
        if run.status == "STARTED" and run.stays:
            yield f"{name} started: it follows the topic until the next one takes over"
        elif run.status == "SUCCESS" and run.stays:
            yield f"{name} ended as planned"
        elif run.status == "FAILURE":
            yield f"{name} failed; its page says why: Runs > {run_id[:8]}"
        elif run.status == "CANCELED":
            yield f"{name} was terminated; what it wrote is in the ledger"


def _readings(before: Look, now: Look) -> Iterator[str]:
    if now.stored and not before.stored:
        waited = ""
        if now.latency_ms is not None:
            waited = f", each {now.latency_ms:,.0f} ms after it arrived in Kafka (p50)"
        yield f"first readings: {counted(now.stored, 'row')} stored{waited}"


def _checks(before: Look, now: Look, command: str) -> Iterator[str]:
    for name, check in sorted(now.checks.items()):
        was = before.checks.get(name)
        if not check.passed and (was is None or was.passed):
            yield f"RED   {name}: {in_words(check, command)}"
        elif check.passed and was is not None and not was.passed:
            yield f"green {name} again"
    news = [name for name in sorted(now.unlooked) if name not in before.unlooked]
    if news:
        why = _for_pasting(now.unlooked[news[0]], command)
        yield f"{counted(len(news), 'check')} could not look, {news[0]} for one: {why}"
    elif before.unlooked and not now.unlooked:
        yield "all checks look again"
    if now.is_all_green and not before.is_all_green:
        yield f"all {now.check_count} checks green"


def _fleet(before: Look, now: Look) -> Iterator[str]:
    if now.fleet_end and not before.fleet_end:
        # Behind its report stands why it failed, where it did.
        why = now.fleet_end.rpartition("\niot: ")[2].removeprefix("iot: ")
        yield f"the fleet ended: {' '.join(why.split())}"


def in_words(check: CheckSeen, command: str) -> str:
    """Its sentence on one line, with commands that can be pasted: this `iot`, a device's id."""
    sentence = _for_pasting(check.sentence, command)
    named = _NAMED.search(sentence)
    device_id = check.device_id or (named[1] if named else "")
    return sentence.replace(_PLACEHOLDER, shlex.quote(device_id)) if device_id else sentence


def _for_pasting(text: str, command: str) -> str:
    return " ".join(text.split()).replace("`iot ", f"`{command} ")
