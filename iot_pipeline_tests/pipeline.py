"""A whole pipeline on the session's servers: set up, drained, asked, for tests of every layer."""

import contextlib
import dataclasses
import io
import json
import os
import sys
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

from iot_pipeline.cli.main import EXIT_TRANSIENT, main
from iot_pipeline.clients.kafka_log import KafkaLog
from iot_pipeline.connections import Connections, drain_config
from iot_pipeline.core.reading.row_groups import RowSlice
from iot_pipeline.core.times import MS_PER_DAY
from iot_pipeline.settings import Settings
from iot_pipeline.stages.ingest.drain import drain
from iot_pipeline.stages.ingest.planning import make_plan
from iot_pipeline.stages.ingest.progress import DrainProgress
from iot_pipeline.stages.ports.ledger import Run
from iot_pipeline_tests.servers import clean_environment

IOT = Path(sys.executable).with_name("iot")
_TRIES = 3


@dataclass(frozen=True)
class Pipeline:
    """Topics and tables that exist, clients of them, and the environment that leads there."""

    settings: Settings
    env: Mapping[str, str]
    connections: Connections

    @property
    def log(self) -> KafkaLog:
        return self.connections.log

    @property
    def topic(self) -> str:
        return self.settings.topic

    @property
    def brokers(self) -> str:
        return self.settings.bootstrap_servers

    def drain(self, **overrides: Any) -> DrainProgress:
        """One run to the last stable offset; `overrides` are of DrainConfig."""
        plan = make_plan(self.log, self.connections.ledger, self.topic)
        config = dataclasses.replace(drain_config(self.settings), **overrides)
        return drain(plan, self.connections.ports, new_run(), config)

    def iot(self, *arguments: str, exit_code: int = 0) -> Any:
        """Run `iot` in this process; its JSON when that was asked for, else its output.

        Where a server stands still for ten seconds a command says "try again", and this does.
        """
        for _ in range(_TRIES):
            code, out, err = iot_here(self.env, *arguments)
            if code != EXIT_TRANSIENT or exit_code == EXIT_TRANSIENT:
                break
        assert code == exit_code, f"{arguments}: {code}\n{out}\n{err}"
        return json.loads(out) if "--json" in arguments else out + err

    def rows(self, device_id: str, day: str = "2024-12-29") -> dict[int, tuple[float, float, int]]:
        """timestamp_ms -> (temperature, humidity, write time in µs) of one Cassandra partition."""
        found = self.connections.cassandra.execute(
            f"SELECT timestamp, temperature, humidity, writetime(temperature) AS t, "
            f"writetime(humidity) AS h FROM {self.settings.keyspace}.sensor_data "
            f"WHERE device_id = '{device_id}' AND day = '{day}'",
            doing="reading rows back",
        )
        rows = {}
        for row in found:
            assert row.t == row.h, f"a torn row: {row}"
            rows[_ms(row.timestamp)] = (row.temperature, row.humidity, row.t)
        return rows

    def count_rows(self, prefix: str, devices: int, day: str = "2024-12-29") -> int:
        """Rows of `prefix`_0 to `prefix`_`devices - 1` on one day."""
        names = ", ".join(f"'{prefix}_{number}'" for number in range(devices))
        found = self.connections.cassandra.execute(
            f"SELECT count(*) FROM {self.settings.keyspace}.sensor_data "
            f"WHERE device_id IN ({names}) AND day = '{day}'",
            doing="counting rows",
            timeout_seconds=60,
        )
        return int(found[0][0])


def iot_here(env: Mapping[str, str], *arguments: str) -> tuple[object, str, str]:
    """Run `iot` in this process, which no other thread may do meanwhile: exit code, output, errors.

    A second of imports per command would be most of a test; `IOT` is the installed one.
    """
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, clean_environment(env), clear=True),
        mock.patch.object(sys, "argv", ["iot", *arguments]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code: object = 0
        try:
            main()
        except SystemExit as exc:
            code = exc.code or 0
    return code, out.getvalue(), err.getvalue()


def new_run() -> Run:
    return Run(f"test-{uuid.uuid4()}", uuid.uuid4())


def _ms(moment: datetime) -> int:
    return round(moment.replace(tzinfo=UTC).timestamp() * 1000)


def store_as_then(pipeline: Pipeline, device_id: str, times: Iterable[float]) -> None:
    """Rows as a drain of that moment wrote them: each arrived when it was measured.

    What goes through Kafka arrives now, and who has just been heard of is not silent.
    """
    store = pipeline.connections.store
    pending = []
    for seconds in times:
        ms = round(seconds * 1000)
        row = (ms * 1000, ms, 0, 20.0, 50.0)
        pending += [
            store.send_rows(RowSlice.of({(device_id, ms // MS_PER_DAY): {ms: row}})),
            store.send_devices(ms // MS_PER_DAY, {device_id: ms}),
        ]
    while not all(write.done for write in pending):
        store.wait(0.1)
    assert [write.error for write in pending if write.error is not None] == []
