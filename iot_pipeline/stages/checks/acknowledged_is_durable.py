from iot_pipeline.core.checks.verdicts import CheckVerdict
from iot_pipeline.stages.checks.machinery.check import CASSANDRA, Check
from iot_pipeline.stages.checks.machinery.facts import Facts


def look(facts: Facts) -> CheckVerdict:
    """Ask every node for its own settings."""
    if facts.schema.durability_withheld is not None:
        raise facts.schema.durability_withheld
    return judge(facts.schema.is_durable, facts.schema.durability)


def judge(is_durable: bool, sentence: str) -> CheckVerdict:
    """What `core.checks.schema.describe_durability` says."""
    said = f"{sentence[:1].upper()}{sentence[1:]}."
    return CheckVerdict(is_durable, said, {"is_durable": int(is_durable)})


CHECK = Check(
    "acknowledged_is_durable",
    "Cassandra syncs a write to disk before it acknowledges it, on every node. Everything else "
    "stands on this.",
    look,
    order=40,
    asks=(CASSANDRA,),
)
