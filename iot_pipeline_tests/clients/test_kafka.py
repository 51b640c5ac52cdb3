"""What every Kafka client is told of the brokers has one owner."""

from pathlib import Path

import iot_pipeline
from iot_pipeline.clients.kafka import client_config
from iot_pipeline.settings import Settings


def test_where_the_brokers_are_is_said_to_clients_in_one_module() -> None:
    package = Path(iot_pipeline.__path__[0])
    saying = {p.name for p in package.rglob("*.py") if '"bootstrap.servers"' in p.read_text()}
    assert saying == {"kafka.py", "settings_kafka.py"}
    assert client_config(Settings(bootstrap_servers="h:1"))["bootstrap.servers"] == "h:1"
