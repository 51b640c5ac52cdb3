"""`iot metrics`: what Prometheus scrapes, once or served."""

from datetime import UTC, datetime

import click

from iot_pipeline.artifacts.prometheus import as_text, served
from iot_pipeline.cli.output import say
from iot_pipeline.cli.runs import Stop
from iot_pipeline.metrics import Look, Observer, open_watching
from iot_pipeline.settings import Settings

_EVERY_SECONDS = 15.0
_CHECKS_SECONDS = 300.0


@click.command("metrics")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Serve them until Ctrl-C; 0: at a free port."
)
def metrics_command(port: int | None) -> None:
    """Print all metrics of the pipeline as Prometheus reads them, or serve them with --port.

    From Kafka, the ledger and the checks: lag, fates, verdicts, devices, the last audit. Served
    ones are looked at every 15 seconds, checks every five minutes. docs/metrics.md lists them.
    """
    settings, stop = Settings.from_env(), Stop()
    with open_watching(settings) as connections:
        observer = Observer(connections, _CHECKS_SECONDS)
        newest = observer.look(datetime.now(UTC)) if port is None else Look()
        if port is None:
            click.echo(as_text(newest.samples), nl=False)
            return
        address = settings.metrics_address
        with stop, served(port, address, lambda: list(newest.samples)) as served_at:
            say(f"metrics: http://{address}:{served_at}/metrics; Ctrl-C ends", err=True)
            while not stop.is_asked():
                newest = observer.look(datetime.now(UTC))
                stop.sleep(_EVERY_SECONDS)
