"""How every Kafka client of ours reaches the brokers; what else it is told is its own module's."""

from typing import Any

from iot_pipeline.settings import Settings


def client_config(settings: Settings) -> dict[str, Any]:
    """Where the brokers are, and what they want of a client that connects."""
    return {"bootstrap.servers": settings.bootstrap_servers}


def raw_config(settings: Settings) -> dict[str, Any]:
    """The same in the words of kafka-python."""
    servers = settings.bootstrap_servers.split(",")
    return {"bootstrap_servers": [server.strip() for server in servers]}


class _Silent:
    """librdkafka's own log lines say every reconnect; our messages say what it means."""

    def log(self, *_: object) -> None:
        return


SILENT = _Silent()
