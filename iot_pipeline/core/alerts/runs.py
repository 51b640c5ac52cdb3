"""What the newest run of a job says, to the sensor within Dagster and to the watchdog outside."""

from iot_pipeline.core.alerts.conditions import RUN_FAILED, Condition, Level

# Tags of a run: which lane of ingestion it is of, and the sensor that asked for it.
LANE = "iot/lane"
BY_SENSOR = "dagster/sensor_name"
# In the metadata of a failure: the server that was away.
SERVER_AWAY = "server_away"
INGEST = "ingest"
# The sensor that tells people.
ALERTS = "iot_alerts"


def run_succeeded(run_id: str, name: str) -> Condition:
    """`name` is the job's, and its lane's where it has several."""
    said = f"Run {run_id[:8]} succeeded."
    return Condition(RUN_FAILED, Level.GREEN, said, name, path=f"/runs/{run_id}")


def run_failed(
    run_id: str, name: str, why: str, away: str, *, is_asked_again: bool
) -> Condition | None:
    """A failure; None: it failed with its server, and is asked for again by itself."""
    if away and is_asked_again:
        return None
    said = f"Run {run_id[:8]} failed: {why}"
    return Condition(RUN_FAILED, Level.ERROR, said, name, path=f"/runs/{run_id}", away=away)
