import webbrowser
from dataclasses import asdict

import click

from iot_pipeline.cli.output import exit_as_found, exit_code_option, json_option, print_json, say
from iot_pipeline.connections import open_connections
from iot_pipeline.report import write_report
from iot_pipeline.settings import Settings


@click.command("report")
@click.option("--open", "is_opened", is_flag=True, help="Show it in the browser.")
@exit_code_option("a check is red or a device has a problem")
@json_option
def report_command(is_opened: bool, has_exit_code: bool, as_json: bool) -> None:
    """Write a page: is everything stored, who is silent, how late, what was refused, what to do.

    Into the data folder: reports/TIME.html and reports/latest.html, each whole in itself.
    """
    with open_connections(Settings.from_env()) as connections:
        say("looking at everything, some seconds to half a minute", err=True)
        health, path, latest = write_report(connections)
    if as_json:
        print_json(
            {
                "path": str(path),
                "latest": str(latest),
                "mood": health.mood.value,
                "answers": [asdict(answer) for answer in health.answers],
                "red": [verdict.name for verdict in health.red],
                "devices_with_problems": [
                    {"device_id": name, "problems": words.split(", "), "seen": seen}
                    for name, words, seen in health.view.fleet.worst
                ],
            }
        )
    else:
        for answer in health.answers:
            say(f"{answer.question} {answer.answer}")
        say(f"\n{path}\n{latest.as_uri()}")
    if is_opened:
        webbrowser.open(latest.as_uri())
    exit_as_found(has_exit_code, bool(health.red or health.view.fleet.worst))
