"""What the UI shows of the checks, decided as Dagster's own GraphQL layer does."""

import asyncio

import dagster as dg
from dagster._core.loader import LoadingContextForTest

from iot_pipeline.stages.checks.machinery.registry import checks_of
from iot_pipeline_tests.defs.keys import CHECK_KEYS

NOT_EVALUATED, IN_PROGRESS = "Not Evaluated", "In progress"


def seen(instance: dg.DagsterInstance) -> dict[str, str]:
    """By check: SUCCEEDED, FAILED, In progress, or Not Evaluated."""
    records = instance.event_log_storage.get_latest_asset_check_execution_by_key(CHECK_KEYS)

    async def look() -> dict[str, str]:
        found = {}
        for key in CHECK_KEYS:
            record = records.get(key)
            # A context remembers what it has loaded: one for each check.
            context = LoadingContextForTest(instance)
            if record is None or not await record.targets_latest_materialization(context):
                found[key.name] = NOT_EVALUATED
            else:
                found[key.name] = (await record.resolve_status(context)).value
        return found

    found = asyncio.run(look())
    assert set(found) == {check.name for check in checks_of()}
    return found
