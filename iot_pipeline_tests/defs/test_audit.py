"""What the audit's job shows where the days cannot be read."""

from types import SimpleNamespace
from typing import Any, cast

import dagster as dg

from iot_pipeline.connections import Connections
from iot_pipeline.defs.audit import _grid_now
from iot_pipeline.errors import SchemaMismatchError


class NoDays:
    """`Audits` of a keyspace from before the days were kept."""

    def read_audited_days(self, topic: str) -> Any:
        raise SchemaMismatchError(f"reading the days of {topic}: no table audited_days")


def test_days_that_cannot_be_read_do_not_keep_the_findings_from_being_told() -> None:
    connections = SimpleNamespace(
        rollup_ports=None, audits=NoDays(), settings=SimpleNamespace(topic="iot_data")
    )
    assert _grid_now(dg.build_op_context(), cast(Connections, connections)) is None
