"""A drain that kills itself: SIGKILL before or after the k-th call of a named port method.

    python -m iot_pipeline_tests.crashing_drain METHOD K before|after

Everything else is `iot drain`: settings from the environment, the same plan, ports and stage. The
crash sits in wrappers around the ports, so the package has no hook for it.
"""

import dataclasses
import os
import signal
import sys
from typing import Any

from iot_pipeline.cli.runs import new_cli_run
from iot_pipeline.connections import drain_config, open_connections
from iot_pipeline.settings import Settings
from iot_pipeline.stages.ingest.config import Ports
from iot_pipeline.stages.ingest.drain import drain
from iot_pipeline.stages.ingest.planning import make_plan

MICRO_BATCH_RECORDS = 1000


class Crashing:
    """A port that does what it should until it is killed in the middle of it."""

    def __init__(self, port: Any, method: str, at_call: int, when: str) -> None:
        self._port, self._method, self._left, self._when = port, method, at_call, when

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._port, name)
        if name != self._method:
            return real

        def call(*arguments: Any, **named: Any) -> Any:
            self._left -= 1
            if self._left == 0 and self._when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            answer = real(*arguments, **named)
            if self._left == 0:
                _wait_for(answer, self._port)
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        return call


def _wait_for(answer: Any, port: Any) -> None:
    # What was sent is to have happened: the crash is then between the effect and our knowing.
    while getattr(answer, "done", True) is False:
        port.wait(0.1)


def main(method: str, at_call: int, when: str) -> None:
    settings = Settings.from_env()
    with open_connections(settings) as connections:
        plan = make_plan(connections.log, connections.ledger, settings.topic)
        real = connections.ports
        crashing: dict[str, Any] = {
            field.name: Crashing(getattr(real, field.name), method, at_call, when)
            for field in dataclasses.fields(Ports)
            if hasattr(getattr(real, field.name), method)
        }
        ports = dataclasses.replace(real, **crashing)
        config = dataclasses.replace(
            drain_config(settings), micro_batch_records=MICRO_BATCH_RECORDS
        )
        drain(plan, ports, new_cli_run(), config)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
