"""`iot watch`: the watchdog outside of Dagster; tells people, and serves metrics."""

from contextlib import ExitStack
from datetime import UTC, datetime

import click
import filelock

from iot_pipeline.artifacts.prometheus import served
from iot_pipeline.cli.output import say
from iot_pipeline.cli.runs import Stop
from iot_pipeline.clients.alert_channels import AppriseChannels
from iot_pipeline.clients.dagster_health import DagsterHealth
from iot_pipeline.core.alerts.changes import Memory
from iot_pipeline.core.alerts.conditions import without_consequences
from iot_pipeline.core.rights.needed import JOBS, SENSORS
from iot_pipeline.core.times import in_utc
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.files import Kept
from iot_pipeline.metrics import Look, Observer, open_watching
from iot_pipeline.settings import Settings
from iot_pipeline.stages.alerts.telling import refuse_unknown_checks, tell


@click.command("watch")
@click.option(
    "--every",
    type=click.FloatRange(min=1),
    default=15.0,
    show_default=True,
    help="Seconds between two looks at servers, ingestion and Dagster.",
)
@click.option(
    "--checks-every",
    type=click.FloatRange(min=0),
    default=300.0,
    show_default=True,
    help="Seconds between two looks at all checks; 0: none, the sensor iot_alerts tells them.",
)
@click.option("--port", type=click.IntRange(0, 65535), help="Serve metrics there; 0: a free one.")
@click.option("--once", is_flag=True, help="Look once, say what is red, tell no one.")
def watch_command(every: float, checks_every: float, port: int | None, once: bool) -> None:
    """Look at a pipeline from outside of Dagster, and tell the channels what changes.

    Whether Kafka and Cassandra answer, whether what arrives is ingested, all checks; and, with
    IOT_UI_URL, whether Dagster's webserver and daemons live, and the sensors and last runs of all
    its pipelines. Ends with Ctrl-C or SIGTERM. What was told is kept in the data folder, so a
    restart repeats nothing.
    """
    settings = Settings.from_env()
    refuse_unknown_checks(settings)
    folder = settings.data_dir / "alerts"
    memory = Kept(folder / "watch.json", Memory)
    channels = AppriseChannels(settings.alert_urls)
    stop = Stop()
    with ExitStack() as stack:
        if not once:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(stop)
            try:
                stack.enter_context(filelock.FileLock(folder / "watch.lock", timeout=0))
            except filelock.Timeout:
                raise ConfigurationError(
                    f"another iot watch is at work in {folder}: it would tell everything twice"
                ) from None
        connections = stack.enter_context(open_watching(settings))
        observer = Observer(connections, checks_every or None)
        dagster = DagsterHealth(settings.ui_url, SENSORS, JOBS)
        newest = Look()
        if port is not None and not once:
            address = settings.metrics_address
            served_at = stack.enter_context(served(port, address, lambda: list(newest.samples)))
            say(f"metrics: http://{address}:{served_at}/metrics", err=True)
        if not once:
            whom = ", ".join(channels.names) or "no one: IOT_ALERT_CHANNELS is not set"
            say(f"watching {settings.topic}, telling {whom}; Ctrl-C ends", err=True)
        while True:
            now = datetime.now(UTC)
            newest = observer.look(now)
            if settings.ui_url:
                newest.conditions += dagster.look()
            if once:
                _say_red(newest)
                return
            told = tell(
                newest.conditions,
                memory.read() or Memory(),
                memory.write,
                channels,
                settings,
                settings.topic,
                now,
            )
            if told.written or told.sent or told.failures:
                say(f"{in_utc(now)} {told}", err=True)
            if stop.sleep(every):
                return


def _say_red(look: Look) -> None:
    red = [item for item in without_consequences(look.conditions) if item.level]
    for item in red:
        say(f"{item.level.name} {item.subject}: {item.sentence}")
    if not red:
        say(f"nothing is red: {len(look.conditions)} things were looked at")
