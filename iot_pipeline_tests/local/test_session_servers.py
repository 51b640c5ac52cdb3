"""The servers that other tests stand on."""

import pytest

from iot_pipeline.local.probes import cassandra_answers, kafka_answers
from iot_pipeline.settings import Settings
from iot_pipeline_tests.servers import Services

pytestmark = pytest.mark.services


def test_the_sessions_servers_answer(services: Services) -> None:
    host, _, port = services.bootstrap_servers.rpartition(":")
    assert kafka_answers(host, int(port))
    assert cassandra_answers(services.contact_points[0], services.cassandra_port)


def test_settings_of_a_test_lead_to_them_and_nowhere_else(
    services: Services, settings: Settings, settings_env: dict[str, str]
) -> None:
    assert settings.bootstrap_servers == services.bootstrap_servers
    assert settings.topic == settings_env["IOT_TOPIC"] != "iot_data"
    assert settings.keyspace != "iot_data"
