from collections.abc import Sequence

from iot_pipeline.core.checks.verdicts import CheckVerdict
from iot_pipeline.core.ledger.chain import ChainLink
from iot_pipeline.stages.checks.machinery.check import CASSANDRA, Check
from iot_pipeline.stages.checks.machinery.facts import Facts


def look(facts: Facts) -> CheckVerdict:
    """What the last hour's runs saw inside their micro-batches; asks nothing more."""
    return judge(facts.recent, facts.settings.superseded_share)


def judge(recent: Sequence[ChainLink], limit: float) -> CheckVerdict:
    """Differing readings of one device and millisecond: all but one of them are gone.

    `limit` is a share of the readings.
    """
    superseded = sum(link.superseded for link in recent)
    repeated = sum(link.repeated for link in recent)
    readings = sum(link.stored for link in recent) + superseded + repeated
    share = superseded / readings if readings else 0.0
    numbers: dict[str, int | float] = {
        "superseded": superseded,
        "repeated": repeated,
        "readings": readings,
        "share": round(share, 4),
    }
    if share > limit:
        said = (
            f"{superseded:,} of {readings:,} readings of the last hour ({share:.2%}) are not "
            "in the table: another reading of the same device and millisecond has other values, "
            "and one row holds one of them. Two devices use one id, or a device takes more than "
            f"one reading in a millisecond. Up to {limit:.2%} would be green "
            "(IOT_SUPERSEDED_SHARE)."
        )
        return CheckVerdict(False, said, numbers)
    if not readings:
        return CheckVerdict(True, "No reading was ingested in the last hour.", numbers)
    said = f"{superseded:,} of {readings:,} readings of the last hour differ from another "
    said += "one of their device and millisecond"
    said += f"; {repeated:,} were sent again as they were." if repeated else "."
    return CheckVerdict(True, said, numbers)


CHECK = Check(
    "superseded_are_few",
    "The share of the last hour's readings that another one of the same device and millisecond "
    "replaced with other values. Equal ones, sent again, are not counted.",
    look,
    order=95,
    is_free=True,
    asks=(CASSANDRA,),
    settings=("IOT_SUPERSEDED_SHARE",),
)
