"""`iot report`: how the pipeline and its fleet are, as one page."""

import webbrowser

import click

from iot_pipeline.cli.output import json_option, print_json, say
from iot_pipeline.connections import open_connections
from iot_pipeline.health import all_verdicts, write_report
from iot_pipeline.settings import Settings


@click.command("report")
@click.option("--open", "is_opened", is_flag=True, help="Show it in the browser.")
@json_option
def report_command(is_opened: bool, as_json: bool) -> None:
    """Write a page: is everything stored, who is silent, how late, what was refused, what to do.

    Into the data folder: reports/TIME.html and reports/latest.html, each whole in itself.
    """
    with open_connections(Settings.from_env()) as connections:
        say("looking at everything, some seconds to half a minute", err=True)
        report = write_report(connections, all_verdicts(connections))
    health = report.health
    if as_json:
        print_json(
            {
                "path": str(report.path),
                "latest": str(report.latest),
                "mood": health.mood.value,
                "answers": [
                    {
                        "question": answer.question,
                        "mood": answer.mood.value,
                        "answer": answer.answer,
                        "more": list(answer.more),
                    }
                    for answer in health.answers
                ],
                "red": [verdict.name for verdict in health.red],
            }
        )
    else:
        for answer in health.answers:
            say(f"{answer.question} {answer.answer}")
        say(f"\n{report.path}\n{report.latest.as_uri()}")
    if is_opened:
        webbrowser.open(report.latest.as_uri())
