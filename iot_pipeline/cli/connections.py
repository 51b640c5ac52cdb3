"""Who a command's drain is; the clients themselves come from `iot_pipeline.connections`."""

import uuid

from iot_pipeline.connections import Connections, drain_config, open_connections, reading_rules
from iot_pipeline.stages.ports import Run

__all__ = ["Connections", "drain_config", "new_cli_run", "open_connections", "reading_rules"]


def new_cli_run() -> Run:
    """A drain from the command line: `cli-<uuid>`, and this process as the writer."""
    writer = uuid.uuid4()
    return Run(f"cli-{writer}", writer)
