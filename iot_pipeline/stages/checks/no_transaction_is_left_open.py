from collections.abc import Sequence

from iot_pipeline.core.checks.device_table import some
from iot_pipeline.core.checks.verdicts import CheckVerdict
from iot_pipeline.core.reading.lag import OpenTransaction, PartitionLag, total_lag
from iot_pipeline.core.times import in_words
from iot_pipeline.core.words import counted
from iot_pipeline.stages.checks.machinery.check import KAFKA, Check
from iot_pipeline.stages.checks.machinery.facts import Facts


def look(facts: Facts) -> CheckVerdict:
    """What lies between the last stable offset and the log's end, and who holds it back."""
    settings, lags = facts.settings, facts.lags
    held = [lag.state.partition for lag in lags if lag.held_offsets]
    found = facts.ports.log.open_transactions(settings.topic, held) if held else []
    now_ms = facts.now.timestamp() * 1000
    limit = settings.lag_limit_seconds
    return judge(lags, found, now_ms, limit, settings.bootstrap_servers, settings.topic)


def judge(
    lags: Sequence[PartitionLag],
    found: Sequence[OpenTransaction],
    now_ms: float,
    limit_seconds: float,
    bootstrap_servers: str,
    topic: str,
) -> CheckVerdict:
    """A transaction that is open for longer than the limit holds readings back."""
    total = total_lag(lags)
    numbers = {
        "held_back_offsets": total.held_offsets,
        "held_back_seconds": round(total.held_seconds, 3),
        "open_transactions": len({(one.producer_id, one.producer_epoch) for one in found}),
    }
    # Of unknown age: it has been open for who knows how long.
    old = [
        one for one in found if one.since_ms is None or now_ms - one.since_ms > limit_seconds * 1000
    ]
    if not old:
        said = "No open transaction holds readings back."
        if found:
            said = (
                f"{counted(total.held_offsets, 'offset waits', 'offsets wait')} for open "
                f"transactions, the oldest since {in_words(total.held_seconds)}; "
                f"the limit is {limit_seconds:g} s."
            )
        return CheckVerdict(True, said, numbers)
    first = old[0]
    command = (
        f"kafka-transactions.sh --bootstrap-server {bootstrap_servers} abort --topic {topic} "
        f"--partition {first.partition} --start-offset {first.start_offset}"
    )
    said = (
        f"{total.held_offsets:,} offsets are not looked at: they lie behind an open transaction. "
        f"{some([_named(one, now_ms) for one in old])}. Devices whose readings lie there are not "
        "called silent. Let its producer commit or abort; where that producer is gone and the "
        f"transaction does not time out, `{command}` aborts it: its own records are dropped, all "
        "others are ingested."
    )
    return CheckVerdict(False, said, numbers)


def _named(one: OpenTransaction, now_ms: float) -> str:
    since = "at an unknown time"
    if one.since_ms is not None:
        since = f"{in_words(max(0.0, now_ms - one.since_ms) / 1000)} ago"
    name = (
        f"transactional id {one.transactional_id}"
        if one.transactional_id is not None
        else "no coordinator knows it"
    )
    return (
        f"partition {one.partition} from offset {one.start_offset}: producer {one.producer_id}, "
        f"epoch {one.producer_epoch}, {name}, begun {since}"
    )


CHECK = Check(
    "no_transaction_is_left_open",
    "No open transaction holds readings back for longer than the limit of the lag. Behind one "
    "no record is given out, of any producer.",
    look,
    order=5,
    asks=(KAFKA,),
    settings=("IOT_LAG_LIMIT_SECONDS",),
)
