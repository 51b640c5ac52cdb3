"""`iot status`: do both servers answer, and whose are they."""

import sys

import click

from iot_pipeline.cli.output import EXIT_FOUND, json_option, print_json, print_table
from iot_pipeline.cli.services import local_services
from iot_pipeline.local.servers import ServerStatus


@click.command("status")
@json_option
def status_command(as_json: bool) -> None:
    """Show addresses, processes and health of both servers; exit code 1 unless both answer."""
    statuses = local_services().status()
    if as_json:
        print_json([_as_dict(status) for status in statuses])
    else:
        print_table(
            ("service", "version", "address", "state", "pid", "log"),
            [
                (s.name, s.version, ", ".join(s.addresses), _explain(s), s.pid, s.log)
                for s in statuses
            ],
        )
    if any(s.state not in ("up", "elsewhere") for s in statuses):
        sys.exit(EXIT_FOUND)


def _as_dict(status: ServerStatus) -> dict[str, object]:
    return {
        "service": status.name,
        "version": status.version or None,
        "addresses": list(status.addresses),
        "state": status.state,
        "is_answering": status.state in ("up", "elsewhere"),
        "pid": status.pid,
        "process": status.process or None,
        "log": str(status.log),
    }


def _explain(status: ServerStatus) -> str:
    if status.state == "elsewhere":
        who = f" ({status.process})" if status.process else ""
        return f"answers; not started here{who}"
    return {"up": "up", "not answering": "runs, does not answer", "stopped": "stopped"}[
        status.state
    ]
