from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import chain

from iot_pipeline.core.checks.device_table import some
from iot_pipeline.core.checks.verdicts import CheckVerdict
from iot_pipeline.core.ingest.run_costs import (
    IN_A_ROW,
    LEAST_ROWS,
    LEAST_RUNS,
    LEAST_SAMPLES,
    MEASURES,
    MOST_RUNS,
    Compared,
    Mode,
    Place,
    RunCost,
    compare,
    lane_name,
)
from iot_pipeline.stages.checks.machinery.check import CASSANDRA, Check
from iot_pipeline.stages.checks.machinery.facts import Facts, RunFacts

# A run that follows says every ten seconds what it did.
_FOLLOW_EVERY = timedelta(minutes=10)

# What was compared of each lane and mode.
Found = Mapping[Place, Sequence[Compared]]


def look(facts: Facts) -> CheckVerdict:
    """A run that is like others keeps what it cost; then all lanes are looked at."""
    costs, topic, run, count = (
        facts.ports.run_costs,
        facts.settings.topic,
        facts.run,
        facts.settings.lanes,
    )
    places = [Place(lane_name(lane, count), mode) for lane in range(count) for mode in Mode]
    if run is not None:
        mine = Place(run.lane, Mode.FOLLOW if run.is_growing else Mode.DRAIN)
        # A run over all partitions, where there are several lanes, is of none of them.
        places = [*places, *([] if mine in places else [mine])]
    found = {place: list(of) for place, of in costs.read_costs(topic, places, MOST_RUNS).items()}
    if run is not None:
        cost = cost_of(run, facts.now)
        if cost is not None and _is_due(mine.mode, cost, found[mine]):
            costs.keep_cost(topic, mine, cost)
            found[mine].insert(0, cost)
    return judge({place: compare(place.mode, history) for place, history in found.items()})


def cost_of(run: RunFacts, now: datetime) -> RunCost | None:
    """What the run, or its newest part, cost; None: it is like no other, so it is not kept."""
    part = run.part
    stored = part.total.stored
    if part.is_throttled or part.seconds <= 0 or not stored:
        return None
    if run.is_growing:
        latencies = run.latencies
        if latencies.samples < LEAST_SAMPLES:
            return None
        p99_ms = 1000 * latencies.percentile_seconds(0.99)
        return RunCost(now, run.run_id, stored, part.seconds, p99_ms=p99_ms)
    # The last part of a run that followed has no CPU time of its own, and is no drain.
    if stored < LEAST_ROWS or not part.cpu_seconds:
        return None
    return RunCost(now, run.run_id, stored, part.seconds, part.cpu_seconds)


def _is_due(mode: Mode, cost: RunCost, history: Sequence[RunCost]) -> bool:
    if mode is Mode.DRAIN or not history:
        return True
    return cost.ended_at - history[0].ended_at >= _FOLLOW_EVERY


def judge(found: Found) -> CheckVerdict:
    """Red where the newest runs of a lane were far from what runs like them were before."""
    numbers: dict[str, int | float] = {}
    for measure in (one for measures in MEASURES.values() for one in measures):
        worst = _worst(
            [item for item in chain.from_iterable(found.values()) if item.measure is measure]
        )
        numbers[measure.name] = round(worst.values[0], 3) if worst and worst.values else 0
        numbers[f"usual_{measure.name}"] = round(worst.usual, 3) if worst else 0
        numbers[f"runs_like_{measure.name}"] = worst.runs if worst else 0
    items = [(place.lane, item) for place, all_of in found.items() for item in all_of]
    bad = [_in_words(lane, item) for lane, item in items if item.is_bad]
    if bad:
        said = (
            f"{some(bad)}. What else runs on this machine, on Cassandra's and on Kafka's? Did this "
            "pipeline, a client or the number of devices change since? `iot ledger` has the runs."
        )
        return CheckVerdict(False, said, numbers)
    known = [_in_words(lane, item) for lane, item in items if item.is_known]
    if known:
        return CheckVerdict(True, f"As usual: {some(known)}.", numbers)
    most = max((item.runs + len(item.values) for _, item in items), default=0)
    said = (
        f"Nothing to compare with yet: {min(most, LEAST_RUNS + IN_A_ROW)} of "
        f"{LEAST_RUNS + IN_A_ROW} runs that are like each other. Compared are drains of "
        f"{LEAST_ROWS:,} rows or more without a limit, and every ten minutes one report of a run "
        f"that follows, if {LEAST_SAMPLES} latencies were measured in it."
    )
    return CheckVerdict(True, said, numbers)


def _worst(items: Sequence[Compared]) -> Compared | None:
    """Of several lanes the one that is furthest from usual; one that is known before others."""

    def badness(item: Compared) -> tuple[bool, float]:
        if not item.is_known:
            return False, float(item.runs)
        ratio = item.values[0] / item.usual
        return True, 1 / ratio if item.measure.is_more_better else ratio

    return max(items, key=badness, default=None)


def _in_words(lane: str, item: Compared) -> str:
    where = "" if lane == lane_name() else f"lane {lane}: "
    newest = " and ".join(map(_shown, item.values))
    return (
        f"{where}{newest} {item.measure.unit} in the newest {len(item.values)} runs, the median of "
        f"{item.runs} like them is {_shown(item.usual)}"
    )


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


CHECK = Check(
    "throughput_is_usual",
    "What the newest two runs took, against the median of eight and more before that are like "
    "them: rows a second and CPU a row of drains that nothing held back, latency of runs that "
    "follow; by lane. Warned at half of the rows, twice the CPU, four times the latency.",
    look,
    order=98,
    asks=(CASSANDRA,),
)
