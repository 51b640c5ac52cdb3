"""Workers on other machines, where Celery hands them the runs: whether it can, and their slots.

Nothing of it is imported unless the instance's run launcher is Celery's (the extra `[celery]`).
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

from iot_pipeline.errors import TransientError

# Beside the lanes: one run that a person starts, and one of the schedules.
BESIDE_LANES = 2
_CONNECT_SECONDS = 5.0
# Workers answer at once; one on a busy machine takes its time.
_ANSWER_SECONDS = 3.0
START = "celery -A iot_pipeline.defs.celery_app worker --concurrency N"


def celery_of(instance: dg.DagsterInstance) -> Any | None:
    """The app by which runs are handed out; None: they are launched in another way."""
    launcher = instance.run_launcher
    module = sys.modules.get("dagster_celery.launcher")
    if module is None or not isinstance(launcher, module.CeleryRunLauncher):
        return None
    return launcher.celery


def why_none_is_launched(instance: dg.DagsterInstance) -> str | None:
    """Why a run that is asked for now would fail at once; None: ask."""
    app = celery_of(instance)
    if app is None:
        return None
    from kombu.exceptions import OperationalError

    with _connection(app) as connection:
        try:
            connection.ensure_connection(max_retries=1, interval_start=0)
        except OperationalError as exc:
            return _does_not_answer(connection, exc)
    return None


def _does_not_answer(connection: Any, exc: Exception) -> str:
    said = " ".join(str(exc).split()).rstrip(".")
    return (
        f"{connection.as_uri()} does not answer, so no run can be handed to a worker: {said}. "
        "Runs at work go on"
    )


def _connection(app: Any) -> Any:
    """One that gives a broker that hangs up, whatever the dagster.yaml says."""
    # By `connect_timeout` alone Redis has all time to answer.
    limits = {"socket_timeout": _CONNECT_SECONDS, "socket_connect_timeout": _CONNECT_SECONDS}
    return app.connection_for_write(connect_timeout=_CONNECT_SECONDS, transport_options=limits)


def why_it_may_hang(app: Any) -> str | None:
    """What has no limit where Redis accepts connections and answers nothing; None: all has."""
    from celery.app.defaults import NAMESPACES

    unlimited, conf = [], app.conf
    broker, backend = str(conf.broker_url or ""), str(conf.result_backend or "")
    if broker.startswith("redis") and not conf.broker_transport_options.get("socket_timeout"):
        unlimited.append("broker_transport_options.socket_timeout")
    default = NAMESPACES["redis"]["socket_timeout"].default
    if backend.startswith("redis") and conf.redis_socket_timeout in (None, default):
        unlimited.append("redis_socket_timeout")
    if not unlimited:
        return None
    return (
        f"config_source does not set {' and '.join(unlimited)}: Dagster's daemon waits for ever, "
        "or for minutes, for a Redis that hangs, and launches and judges no run meanwhile"
    )


@dataclass(frozen=True, slots=True)
class Worker:
    """One that answered: what it is called, its machine, and how many tasks it executes at once.

    `takes_runs`: it takes from the queue into which runs are put.
    """

    name: str
    slots: int
    takes_runs: bool = True

    @property
    def machine(self) -> str:
        return self.name.rpartition("@")[2]


def ask_workers(app: Any, queue: str) -> list[Worker]:
    """Those that answer within seconds, on that Redis; may be empty.

    Raises:
        TransientError: the Redis went away meanwhile.
    """
    from kombu.exceptions import OperationalError

    with _connection(app) as connection:
        asked = {"reply": True, "timeout": _ANSWER_SECONDS, "connection": connection}
        try:
            stats = app.control.broadcast("stats", **asked) or []
            queues = app.control.broadcast("active_queues", **asked) or []
        except (OperationalError, *connection.connection_errors) as exc:
            raise TransientError(_does_not_answer(connection, exc)) from exc
    return workers_of(stats, queues, queue)


def workers_of(
    stats: Iterable[Mapping[str, Any]], queues: Iterable[Mapping[str, Any]], queue: str
) -> list[Worker]:
    """What workers answered, by name; an answer may be an error, and has no slots then.

    Other apps of the same Redis answer, too, and workers that take from other queues.
    """
    takes = {
        name
        for answer in queues
        for name, found in answer.items()
        if isinstance(found, list) and queue in [each.get("name") for each in found]
    }
    return sorted(
        (
            Worker(name, int((found.get("pool") or {}).get("max-concurrency") or 0), name in takes)
            for answer in stats
            for name, found in answer.items()
        ),
        key=lambda worker: worker.name,
    )


def look_at_workers(workers: list[Worker], lanes: int, start_timeout: int) -> Iterator[str]:
    """What is wrong with as many slots as they have, for as many lanes of ingestion as that."""
    waits = (
        f"wait in the broker, where one that waits longer than run_monitoring."
        f"start_timeout_seconds ({start_timeout} s) is failed"
    )
    others = ", ".join(sorted({worker.name for worker in workers if not worker.takes_runs}))
    beside = f" ({others} on that Redis take none)" if others else ""
    workers = [worker for worker in workers if worker.takes_runs]
    if not workers:
        yield f"no worker answers that takes runs{beside}: runs {waits}. On each machine: `{START}`"
        return
    names = [worker.name for worker in workers]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        yield (
            f"{names.count(twice[0])} workers are called {twice[0]}: a run is known by its "
            "machine's name and its process, so each machine needs a name of its own"
        )
    slots = sum(worker.slots for worker in workers)
    if slots < lanes + BESIDE_LANES:
        yield (
            f"the workers have {_slots(slots)}{beside}: {_lanes(lanes)} of ingestion and what "
            f"runs beside need {lanes + BESIDE_LANES} or more. Others {waits}. Start more "
            "workers, or with more --concurrency"
        )
    machines = {worker.machine for worker in workers}
    largest = max(
        machines,
        key=lambda machine: (sum(w.slots for w in workers if w.machine == machine), machine),
    )
    left = sum(worker.slots for worker in workers if worker.machine != largest)
    if left < lanes:
        yield (
            f"when the machine {largest} dies, the others have {_slots(left)} for {_lanes(lanes)}: "
            "what it was at work on waits until there is one"
        )


def _slots(number: int) -> str:
    return "1 slot" if number == 1 else f"{number} slots"


def _lanes(number: int) -> str:
    return "1 lane" if number == 1 else f"{number} lanes"
