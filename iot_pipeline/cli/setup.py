from collections.abc import Iterator

import click

from iot_pipeline.cli.output import json_option, print_json, say
from iot_pipeline.clients.schema_store import migration_files
from iot_pipeline.connections import open_connections
from iot_pipeline.core.checks.cql_script import write_script
from iot_pipeline.core.checks.schema import read_migrations
from iot_pipeline.core.checks.topics import creating_line
from iot_pipeline.core.rollups.declared_columns import declared_columns
from iot_pipeline.settings import Settings
from iot_pipeline.stages.checks import acknowledged_is_durable
from iot_pipeline.stages.topics import topic_plans

# What a node calls its datacenter that was not told another name.
_USUAL_DATACENTER = "datacenter1"


@click.command("setup")
@click.option(
    "--print",
    "is_printed",
    is_flag=True,
    help="Contact nothing: print the CQL, and the lines that make the topics.",
)
@json_option
def setup_command(is_printed: bool, as_json: bool) -> None:
    """Make topics, keyspace and tables where they are missing, and check all of them."""
    settings = Settings.from_env()
    if is_printed:
        if as_json:
            raise click.UsageError("--print is CQL, and --json is not: expected one of them")
        for line in script(settings):
            # As it is, however narrow the terminal: it is for pasting.
            click.echo(line)
        return
    with open_connections(settings) as connections:
        report = connections.set_up(lambda step: say(f"setup: {step}", err=True))
    if as_json:
        print_json(
            {
                "created": report.created,
                "topic_risks": [str(risk) for risk in report.topic_risks],
                "differences": [str(difference) for difference in report.differences],
                acknowledged_is_durable.CHECK.name: report.is_durable,
                "durability": report.durability,
                "notes": report.notes,
            }
        )
        return
    for sentence in report.sentences():
        say(sentence)


def script(settings: Settings) -> Iterator[str]:
    """The lines of a text that cqlsh takes as it is; Kafka's commands are comments in it."""
    wanted = settings.keyspace_replication
    datacenter = settings.datacenter or _USUAL_DATACENTER
    yield f"-- Topics {settings.topic} and {settings.dead_letter_topic}, in a shell:"
    has_doors = settings.kafka_has_tls or settings.kafka_has_sasl
    doors = " --command-config client.properties" if has_doors else ""
    for plan in topic_plans(settings):
        yield f"--   {creating_line(plan, settings.bootstrap_servers, doors)}"
    yield ""
    yield f"-- Keyspace {settings.keyspace}, in cqlsh:"
    if isinstance(wanted, int):
        wanted = {datacenter: wanted}
        if not settings.datacenter:
            yield (
                f"-- {datacenter} is what a node calls its datacenter by itself: "
                "IOT_DATACENTER is another name."
            )
    migrations = read_migrations(migration_files(), declared_columns(settings.quantities))
    for statement in write_script(settings.keyspace, settings.topic, wanted, migrations):
        yield f"{statement};"
