"""How long has the oldest record waited that was not ingested yet?"""

from iot_pipeline.core.checks.verdicts import LAG, CheckVerdict, Severity, judge_lag
from iot_pipeline.stages.checks.check import Check, Cost
from iot_pipeline.stages.checks.facts import Facts


def look(facts: Facts) -> CheckVerdict:
    """Watermarks against checkpoints, and one record of each partition that lags."""
    return judge_lag(facts.lags, facts.settings.lag_limit_seconds)


CHECK = Check(
    LAG,
    "How long the oldest record that was not ingested yet has waited in Kafka. Red, too, when "
    "Kafka or Cassandra did not answer: then the lag is not known.",
    look,
    Severity.WARN,
    Cost.FREE,
    order=1,  # before all others: what a person looks at first, and what meets a dead server first
    settings=("IOT_LAG_LIMIT_SECONDS",),
)
