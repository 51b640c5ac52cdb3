"""A look of its own at what no check says while all of Dagster is off: is anything ingested?"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from iot_pipeline.core.alerts.conditions import (
    INGESTION_STANDS_STILL,
    SERVER_IS_AWAY,
    Condition,
    Level,
)
from iot_pipeline.core.reading.lag import PartitionLag, total_lag
from iot_pipeline.core.times import in_words
from iot_pipeline.core.words import counted
from iot_pipeline.errors import PermanentError, TransientError
from iot_pipeline.settings import Settings
from iot_pipeline.stages.ingest.lag import read_lag
from iot_pipeline.stages.ports.ledger import LedgerStore
from iot_pipeline.stages.ports.log import RecordLogReader

SERVERS = ("Kafka", "Cassandra")
# Of one look; a server that needs longer is away.
_ANSWER_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Looked:
    """What one look found: the conditions, and the lag behind them where it is known."""

    conditions: list[Condition]
    lags: Sequence[PartitionLag] = ()


def look_at_ingestion(
    log: RecordLogReader, ledger: LedgerStore, settings: Settings, now: datetime
) -> Looked:
    """Whether both servers answer, and whether what arrived is ingested.

    Ingestion stands still when a record has waited for longer than IOT_LAG_LIMIT_SECONDS and the
    ledger has no entry that is newer: one that is behind and moves is the check's,
    `lag_is_within_limit`. Where that cannot be told, for another reason than a silent server,
    nothing is said: the checks and the sensor's ticks say it.
    """
    try:
        lags = read_lag(log, ledger, settings.topic, now, timeout_seconds=_ANSWER_SECONDS)
        total = total_lag(lags)
        limit = settings.lag_limit_seconds
        stands = total.lag_seconds > limit and not ledger.read_links(
            settings.topic, range(len(lags)), now - timedelta(seconds=limit)
        )
    except TransientError as exc:
        reason = " ".join(str(exc).split())
        said = f"{exc.away} does not answer: {reason}"
        others = [name for name in SERVERS if name == "Kafka" and exc.away == "Cassandra"]
        return Looked(
            [
                Condition(SERVER_IS_AWAY, Level.ERROR, said, exc.away),
                # Kafka is asked first: that Cassandra did not answer says that Kafka did.
                *(_answers(name) for name in others),
            ]
        )
    except PermanentError:
        return Looked([])
    said = "What arrives is ingested."
    level = Level.GREEN
    if stands:
        level = Level.ERROR
        said = (
            f"Nothing was ingested for {in_words(limit)}, although "
            f"{counted(total.lag_offsets, 'offset waits', 'offsets wait')}, the oldest for "
            f"{in_words(total.lag_seconds)}. Is Dagster's daemon up, is the sensor iot_data_lag "
            "on, and does a run of ingest get its turn? By hand: `iot drain`."
        )
    still = Condition(INGESTION_STANDS_STILL, level, said, path="/assets/iot/sensor_data")
    return Looked([*(_answers(name) for name in (*SERVERS, "a server")), still], lags)


def _answers(server: str) -> Condition:
    return Condition(SERVER_IS_AWAY, Level.GREEN, f"{server} answers again.", server)
