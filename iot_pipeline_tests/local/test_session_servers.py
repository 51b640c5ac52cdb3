"""The servers that other tests stand on."""

from pathlib import Path

import pytest

from iot_pipeline.local.probes import cassandra_answers, kafka_answers
from iot_pipeline.settings import Settings
from iot_pipeline_tests.conftest import (
    BY_THEMSELVES,
    FOLDERS_OF_ONE_PROCESS,
    LONG_FILES,
    given_out_with,
)
from iot_pipeline_tests.servers import Services

TESTS = Path(__file__).resolve().parents[1]


def test_one_process_has_all_files_that_share_servers_and_long_files_are_there() -> None:
    by_themselves = [str(TESTS / file) for file in BY_THEMSELVES]
    for folder in FOLDERS_OF_ONE_PROCESS:
        files = {str(path) for path in (TESTS / folder).glob("test_*.py")} - set(by_themselves)
        assert {given_out_with(file) for file in files} == {folder}
    others = [*by_themselves, "defs/test_slots.py", "defs/test_ingest.py"]
    assert [given_out_with(file) for file in others] == others
    assert [name for name in LONG_FILES if not (TESTS / name).exists()] == []


@pytest.mark.services
def test_the_sessions_servers_answer(services: Services) -> None:
    host, _, port = services.bootstrap_servers.rpartition(":")
    assert kafka_answers(host, int(port))
    assert cassandra_answers(services.contact_points[0], services.cassandra_port)


@pytest.mark.services
def test_settings_of_a_test_lead_to_them_and_nowhere_else(
    services: Services, settings: Settings, settings_env: dict[str, str]
) -> None:
    assert settings.bootstrap_servers == services.bootstrap_servers
    assert settings.topic == settings_env["IOT_TOPIC"] != "iot_data"
    assert settings.keyspace != "iot_data"
