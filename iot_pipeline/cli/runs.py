"""A run from the command line: its name, and this process as its writer."""

import uuid

from iot_pipeline.stages.ports import Run


def new_cli_run() -> Run:
    """A run from the command line: `cli-<uuid>`; two in one process never share a writer."""
    writer = uuid.uuid4()
    return Run(f"cli-{writer}", writer)
