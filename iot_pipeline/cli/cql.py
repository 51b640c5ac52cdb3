import click

from iot_pipeline.cli.output import json_option, print_json, print_table, say
from iot_pipeline.clients.cassandra import CassandraClient
from iot_pipeline.clients.select import run_select
from iot_pipeline.core.rights.select_only import check_select
from iot_pipeline.settings import Settings


@click.command("cql")
@click.argument("statement", metavar='"SELECT ..."')
@click.option(
    "--limit",
    type=click.IntRange(1, 1_000_000),
    default=1000,
    show_default=True,
    help="How many rows at most.",
)
@json_option
def cql_command(statement: str, limit: int, as_json: bool) -> None:
    """Run one SELECT and nothing else; tables without a keyspace are the pipeline's."""
    select = check_select(statement)
    with CassandraClient(Settings.from_env()) as client:
        answer = run_select(client, select, limit)
    if as_json:
        rows = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
        print_json({"rows": rows, "is_cut": answer.is_cut})
        return
    print_table(answer.columns, answer.rows)
    if answer.is_cut:
        say(f"the first {limit:,} rows; there are more: --limit", err=True)
