"""What things are called in Dagster whatever the pipeline: tags, the process of a run."""

import os
import platform
from dataclasses import dataclass

import dagster as dg
import psutil

from iot_pipeline.core.alerts import runs
from iot_pipeline.local import processes

# One run at a time per value: dagster.yaml limits it.
LANE = runs.LANE
# Whose run it is, where pipelines have names.
PIPELINE = "iot/pipeline"
# What a run does beside ingestion: dagster.yaml lets two of each kind run, so that ingestion always
# finds a slot. Runs of ingestion have none.
SLOT = "iot/slot"
SIMULATION, BESIDE = "simulation", "beside"
# What a run is to drain, and what it has committed: `P:START-END`, separated by blanks, and
# whole, because a re-execution reads them. Too long for the list of runs: tags with this prefix
# are shown under "View all tags" alone.
RANGES = "dagster/iot_ranges"
ACHIEVED = "dagster/iot_achieved"
PROCESS = "dagster/iot_process"
# Statuses of a run that has one.
HAS_A_PROCESS = (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)
# On runs that stay, launched by the sensor or a person: the next one waits for its turn.
MODE = "iot/mode"
FOLLOW = "follow"
# In the metadata of a check that could not look, and of a failed step: the server that was silent.
SERVER_AWAY = runs.SERVER_AWAY
MAX_RUNTIME = "dagster/max_runtime"
# A failed ingest is planned again by the next tick: a retry of the same run would only be fenced.
NO_RETRY = {"dagster/retry_on_asset_or_op_failure": "false"}

# A run that stays takes this much more at most: start, last checks, a slow machine.
_BESIDE_FOLLOWING_SECONDS = 600


def follow_runtime(follow_seconds: float) -> str:
    """MAX_RUNTIME of a run that follows for this long."""
    return str(max(3600, int(follow_seconds) + _BESIDE_FOLLOWING_SECONDS))


@dataclass(frozen=True, slots=True)
class RunProcess:
    """The process that executes a run.

    Names its run, because a re-execution inherits its parent's tags; and when it started, because
    the system gives out pids again.
    """

    run_id: str
    host: str
    pid: int
    started_seconds: int

    @classmethod
    def current(cls, run_id: str) -> "RunProcess":
        process = psutil.Process(os.getpid())
        return cls(run_id, platform.node(), process.pid, int(process.create_time()))

    @classmethod
    def parse(cls, tag: str) -> "RunProcess | None":
        """Read the tag's text; None when it is not one of ours."""
        parts = tag.rsplit(":", 3)
        if len(parts) != 4 or not (parts[1].isdecimal() and parts[2].isdecimal()):
            return None
        return cls(parts[3], parts[0], int(parts[1]), int(parts[2]))

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}:{self.started_seconds}:{self.run_id}"

    @property
    def is_here(self) -> bool:
        """Whether this machine can tell if it lives."""
        return self.host == platform.node()

    @property
    def is_gone(self) -> bool:
        process = processes.find_same(self.pid, self.started_seconds)
        return process is None or not processes.is_alive(process)
