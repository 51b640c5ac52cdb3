"""How every Kafka client of ours reaches the brokers; what else it is told is its own module's."""

import re
from typing import Any

from iot_pipeline.settings import Settings


def client_config(settings: Settings) -> dict[str, Any]:
    """Where the brokers are, and what they want of a client that connects."""
    return {"bootstrap.servers": settings.bootstrap_servers}


def raw_config(settings: Settings) -> dict[str, Any]:
    """The same in the words of kafka-python."""
    servers = settings.bootstrap_servers.split(",")
    return {"bootstrap_servers": [server.strip() for server in servers]}


# What a consumer holds that was not asked for yet; and what an answer of a broker brings, packed,
# of one partition and of all of them. By default that is 50 MB, which unpacks to ten times as much
# where hundreds of partitions have a backlog: the client needs 442 bytes more for each message.
BOUNDED_MEMORY = {
    "queued.max.messages.kbytes": 16_384,
    "max.partition.fetch.bytes": 524_288,
    "fetch.max.bytes": 8_388_608,
}


class _Silent:
    """librdkafka's own log lines say every reconnect; our messages say what it means."""

    def log(self, *_: object) -> None:
        return


SILENT = _Silent()

# What librdkafka logs where no wait will help, and what it means.
_NEVER = (
    (
        re.compile(r"Failed to resolve '(?P<at>[^']+)': Name or service not known"),
        "no such host name; IOT_BOOTSTRAP_SERVERS is where Kafka is",
    ),
    (
        re.compile(r"(?P<at>\S+)/bootstrap: Receive failed: Invalid response size .*APIVERSION"),
        "what answers there is not Kafka, or wants TLS; IOT_BOOTSTRAP_SERVERS is where Kafka is",
    ),
)


class Heard:
    """As SILENT, but remembers what the client last complained about."""

    def __init__(self) -> None:
        self._line = ""

    def log(self, _level: int, _form: str, *words: object) -> None:
        self._line = str(words[-1]) if words else ""

    def why_never(self) -> str:
        """Address and reason, where the complaint cannot pass by itself; else empty."""
        for pattern, meaning in _NEVER:
            found = pattern.search(self._line)
            if found is not None:
                return f"{found['at'].split('/')[-1]}: {meaning}"
        return ""
