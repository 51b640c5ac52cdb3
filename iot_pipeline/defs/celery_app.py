"""The app of a Celery worker, which executes Dagster's runs on its machine.

    celery -A iot_pipeline.defs.celery_app worker --concurrency 2 -I your.definitions

Where it takes runs from is in the dagster.yaml of DAGSTER_HOME, once for those who hand them out
and those who take them. What asks workers: `defs.workers`.
"""

import os

from celery import Celery
from dagster._core.instance.ref import InstanceRef
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tasks import create_execute_job_task, create_resume_job_task

from iot_pipeline.errors import ConfigurationError

# As Celery has it: how long a new process may take to say that it is there. Its 4 s are too few for
# a machine whose cores are busy.
_UP_SECONDS = 60.0


def _launcher() -> CeleryRunLauncher:
    """That of the home, without opening its storage: a process that forks holds no connection."""
    home = os.environ.get("DAGSTER_HOME", "")
    found = InstanceRef.from_dir(home).run_launcher if home else None
    if not isinstance(found, CeleryRunLauncher):
        raise ConfigurationError(
            f"DAGSTER_HOME={home}: its dagster.yaml has no run launcher of Celery; `iot "
            "check-instance` prints the lines"
        )
    return found


def _worker_app(launcher: CeleryRunLauncher) -> Celery:
    made = launcher.celery
    made.conf.update(
        # A process of its own for each run, as elsewhere: what one leaves behind ends with it.
        worker_max_tasks_per_child=1,
        # One that is taken beforehand would wait here behind a run that stays, beside idle workers.
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        # A run needs Redis at its start alone: it goes on while Redis is away, and so does the
        # worker, however long.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        worker_proc_alive_timeout=_UP_SECONDS,
    )
    return made


app = _worker_app(_launcher())
execute_job = create_execute_job_task(app)
resume_job = create_resume_job_task(app)
