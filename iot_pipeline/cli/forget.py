import sys
from collections.abc import Sequence

import click

from iot_pipeline.cli.output import (
    EXIT_FOUND,
    ask_whether,
    json_option,
    print_json,
    print_table,
    say,
)
from iot_pipeline.cli.ranges import EARLIEST, LATEST
from iot_pipeline.cli.runs import who
from iot_pipeline.connections import Connections, open_connections
from iot_pipeline.core.proof.forgetting import Found, Progress, Receipt, not_reached
from iot_pipeline.core.times import Window
from iot_pipeline.core.words import counted, iot_command
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.local.device_files import DeviceFiles
from iot_pipeline.settings import Settings
from iot_pipeline.stages.proof.forget import ForgetPorts, Left, find, forget, look, unfinished


@click.command("forget")
@click.argument("device_id", metavar="[DEVICE]", required=False)
@click.option("--reason", default="", help="Why; kept with the receipt.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--list", "is_list", is_flag=True, help="The receipts, and whether they still hold.")
@json_option
def forget_command(
    device_id: str | None, reason: str, yes: bool, is_list: bool, as_json: bool
) -> None:
    """Remove all that there is of a device, and keep a receipt.

    Readings, rollups, the index of days, its kept state, mended rows, and its lines in the
    manifests of simulations. It shows first what there is, and at the end what it cannot reach.
    Audits call its records forgotten; neither a replay nor a drain brings it back. What arrives in
    Kafka afterwards is stored as usual. Ended early, the same command goes on. --list exits with 1
    where a receipt is not done, or something of its device is there again.
    """
    if is_list == (device_id is not None):
        raise ConfigurationError("say which: a DEVICE, or --list")
    with open_connections(Settings.from_env()) as connections:
        ports = _ports(connections)
        if device_id is None:
            _list(ports, as_json)
            return
        begun, found = unfinished(ports, device_id), find(ports, device_id)
        if begun is None and not reason.strip():
            raise ConfigurationError("--reason: expected a few words; they outlive the device")
        if not as_json:
            _say_found(device_id, found, begun)
        if not yes:
            ask_whether(f"Forget {device_id}?")
        everything = Window(EARLIEST, LATEST)
        tell = (lambda _: None) if as_json else lambda text: say(text, err=True)
        receipt = forget(ports, device_id, everything, found, reason, who(), say=tell)
        gc_grace = connections.tables.options("sensor_data").get("gc_grace_seconds", "unknown")
        files = ports.files.find_others(device_id)
        left = not_reached(device_id, gc_grace, files, connections.settings.topic)
    if as_json:
        print_json(_as_dict(receipt, None) | {"not_reached": left})
        return
    removed = counted(sum(receipt.rows_by_day.values()), "reading")
    say(f"forgotten: {device_id}, {removed} on {counted(len(receipt.rows_by_day), 'day')}")
    say("not reached:")
    for sentence in left:
        say(f"  {sentence}")


def _ports(connections: Connections) -> ForgetPorts:
    settings = connections.settings
    return ForgetPorts(
        settings.topic,
        connections.rows,
        connections.days,
        connections.rollups,
        connections.device_tables,
        connections.receipts,
        connections.store,
        DeviceFiles(settings.data_dir),
        settings.retry_seconds,
    )


def _say_found(device_id: str, found: Found, begun: Receipt | None) -> None:
    if begun is not None:
        said = (
            f"begun at {begun.forgotten_at:%Y-%m-%d %H:%M:%S} UTC, by {begun.deletion.deleted_by}"
        )
        say(f"{device_id}: {said}, and not done; it goes on")
    rows = [(kind, f"{count:,}") for kind, count in found.by_kind().items()]
    print_table(("of it there are", ""), rows, title=device_id)


def _list(ports: ForgetPorts, as_json: bool) -> None:
    receipts = sorted(ports.receipts.read_receipts(), key=lambda item: item.forgotten_at)
    looked = [(receipt, look(ports, receipt)) for receipt in receipts]
    if as_json:
        print_json([_as_dict(receipt, left) for receipt, left in looked])
    else:
        _print_list(looked)
    if any(left or receipt.progress is Progress.BEGUN for receipt, left in looked):
        sys.exit(EXIT_FOUND)


def _print_list(looked: Sequence[tuple[Receipt, Left]]) -> None:
    if not looked:
        say("no device was forgotten")
        return
    print_table(
        ("device", "forgotten at", "state", "readings", "by", "reason"),
        [
            (
                receipt.device_id,
                receipt.forgotten_at,
                receipt.progress.value,
                f"{sum(receipt.rows_by_day.values()):,}",
                receipt.deletion.deleted_by,
                receipt.deletion.reason,
            )
            for receipt, _ in looked
        ],
    )
    for receipt, left in looked:
        again = iot_command("forget", "--reason", "again", then=(receipt.device_id,))
        if receipt.progress is Progress.BEGUN:
            say(f"{receipt.device_id}: not done; `{again}` goes on")
        elif left:
            there = f"{counted(left.rows, 'reading')}, {counted(left.states, 'kept state')}, "
            there += counted(left.manifests, "manifest")
            say(f"{receipt.device_id}: there again: {there}; `{again}` removes it")


def _as_dict(receipt: Receipt, left: Left | None) -> dict[str, object]:
    by_day = {str(day): rows for day, rows in sorted(receipt.rows_by_day.items())}
    return {
        "device_id": receipt.device_id,
        "forgotten_at": receipt.forgotten_at,
        "state": receipt.progress.value,
        "by_day": by_day,
        "found": dict(receipt.found),
        "by": receipt.deletion.deleted_by,
        "reason": receipt.deletion.reason,
        **({} if left is None else {"rows_again": left.rows, "states_again": left.states}),
    }
