import sys
from datetime import UTC, datetime

import click

from iot_pipeline.cli.output import EXIT_FOUND, json_option, print_json, say
from iot_pipeline.cli.ranges import offsets_option
from iot_pipeline.cli.runs import new_cli_run
from iot_pipeline.cli.throttle import bytes_option, rows_option
from iot_pipeline.connections import asked_limit, open_connections
from iot_pipeline.core.proof.read_back import RowState
from iot_pipeline.core.reading.offsets import parse_range
from iot_pipeline.core.times import choose_window
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.settings import Settings
from iot_pipeline.stages.ingest.planning import read_states
from iot_pipeline.stages.proof.replay import plan_replay, ranges_between, ranges_of_run
from iot_pipeline.stages.proof.replay_progress import ReplayProgress
from iot_pipeline.stages.proof.reread import Choice, choose_reading


@click.command("replay")
@click.option("--run", "run_id", metavar="RUN_ID", help="The ranges that this run ingested.")
@offsets_option
@click.option("--since", metavar="TIME", help="Records that arrived in Kafka from this time on.")
@click.option("--until", metavar="TIME", help="Records that arrived before this time.")
@click.option(
    "--reading",
    type=click.Choice(["then", "now"]),
    help="By which declaration to read what was ingested by another one than the present: the one "
    "of then, or the present one where it changes no stored reading.",
)
@rows_option
@bytes_option
@json_option
def replay_command(
    run_id: str | None,
    offsets: tuple[str, ...],
    since: str | None,
    until: str | None,
    reading: Choice | None,
    max_rows_per_second: int | None,
    max_bytes_per_second: int | None,
    as_json: bool,
) -> None:
    """Write ingested records again: the same cells, no checkpoint moved.

    Restores rows that are missing; changes no value that is there; leaves deleted what `iot delete`
    removed. Reads back what it wrote. Exit code 1: Kafka has deleted a part of what was asked, or
    a row is still missing or torn afterwards.
    """
    if sum((run_id is not None, bool(offsets), since is not None or until is not None)) != 1:
        raise ConfigurationError("say what to replay: --run, --offsets, or --since/--until")
    settings = Settings.from_env()
    asked = [parse_range(text) for text in offsets]
    with open_connections(settings) as connections:
        topic = settings.topic
        if run_id is not None:
            partitions = connections.ledger.partitions(topic)
            asked = ranges_of_run(connections.ledger, topic, partitions, run_id)
        elif not asked:
            window = choose_window(None, since, until, datetime.now(UTC))
            assert window is not None
            _, _, states = read_states(connections.log, connections.ledger, topic)
            asked = ranges_between(connections.log, topic, states, window.since, window.until)
        chosen = plan_replay(connections.log, connections.ledger, topic, asked)
        rereads = choose_reading(chosen.plan, connections.audit_ports, reading or "")
        run = new_cli_run()
        progress = ReplayProgress(chosen.plan.replay, chosen.gone)
        try:
            limit = asked_limit(max_rows_per_second, max_bytes_per_second)
            connections.replay(chosen.plan, run, progress, rereads, limit=limit)
        finally:
            if as_json:
                print_json(replay_as_dict(progress, run.run_id))
            else:
                for sentence in progress.sentences():
                    say(sentence)
    if progress.gone or progress.rows_not_whole:
        sys.exit(EXIT_FOUND)


def replay_as_dict(progress: ReplayProgress, run_id: str) -> dict[str, object]:
    read_back = progress.read_back
    return {
        "run_id": run_id,
        "ranges": [str(item) for item in progress.achieved],
        "gone": [str(item) for item in progress.gone],
        **progress.numbers(),
        "read_back": {state.value: read_back.states[state] for state in RowState},
        "not_taken": [str(finding) for finding in read_back.named],
    }
