"""Settings: defaults that fit the local services, wrong ones refused before any I/O."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from iot_pipeline.core.fleet.quality import QualityLimits
from iot_pipeline.core.reading.messages import ReadingRules
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.settings import Settings
from iot_pipeline.settings_words import form_of


def test_the_defaults_are_valid_and_point_at_the_local_services():
    settings = Settings.from_env({})
    assert settings.bootstrap_servers == "127.0.0.1:9092"
    assert settings.contact_points == ("127.0.0.1",)
    assert settings.dead_letter_topic == "iot_data.dlq"
    assert settings.consumer_group == "iot_pipeline.iot_data"


def test_another_kafka_port_moves_the_default_bootstrap_servers_along():
    assert Settings.from_env({"IOT_KAFKA_PORT": "19999"}).bootstrap_servers == "127.0.0.1:19999"


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("IOT_TOPIC", "no spaces", "topic of the readings"),
        ("IOT_KEYSPACE", "Upper", "expected a small letter, then small letters"),
        ("IOT_PARTITIONS", "0", "greater than or equal to 1"),
        ("IOT_PARTITIONS", "many", "expected a whole number"),
        ("IOT_KAFKA_PORT", "70000", "65535"),
        ("IOT_CASSANDRA_PORT", "9092", "expected another port than IOT_KAFKA_PORT's"),
        ("IOT_BOOTSTRAP_SERVERS", "nohost", "expected host:port"),
        ("IOT_BOOTSTRAP_SERVERS", "host:0", "expected host:port"),
        ("IOT_CONTACT_POINTS", "host:9042", "IOT_CASSANDRA_PORT is the port"),
        ("IOT_CONTACT_POINTS", "", "at least 1 item"),
        ("IOT_HUMIDITY_MIN", "100", "expected less than IOT_HUMIDITY_MAX=100"),
        ("IOT_TEMPERATURE_MAX", "inf", "finite"),
        ("IOT_PLAUSIBLE_TEMPERATURE_MAX", "-40", "IOT_PLAUSIBLE_TEMPERATURE_MIN=-40"),
        ("IOT_JUMP_HUMIDITY", "0", "% between two readings, at once"),
        ("IOT_DEVIATION_TEMPERATURE", "0", "°C a device may differ"),
        ("IOT_STUCK_READINGS", "1", "equal readings after which"),
        ("IOT_START_AT", "yesterday", "expected earliest, latest or a time"),
        ("IOT_START_AT", "2026-01-31T00:00:00", "expected a time with its zone"),
        ("IOT_ON_EXPIRED", "skip", "'halt' or 'record'"),
        ("IOT_SERIAL_CONSISTENCY", "ONE", "'SERIAL' or 'LOCAL_SERIAL'"),
        ("IOT_OWNERS", "data-engineering", "expected team:NAME or e-mail addresses"),
        ("IOT_CODE_URL", "github.com/team/iot", "page with the code"),
    ],
)
def test_a_wrong_setting_names_the_variable_the_value_and_what_is_expected(variable, value, words):
    with pytest.raises(ConfigurationError) as refused:
        Settings.from_env({variable: value})
    message = str(refused.value)
    assert f"{variable}={value}" in message
    assert words in message


@pytest.mark.parametrize("variable", ["IOT_CODE_URL", "IOT_UI_URL"])
def test_a_login_in_an_address_is_not_told(variable):
    with pytest.raises(ConfigurationError) as refused:
        Settings.from_env({variable: "https://me:hidden@host.example/ x"})
    assert "hidden" not in str(refused.value)
    assert f"{variable}=https://***@host.example/ x" in str(refused.value)


def test_all_wrong_settings_are_named_at_once():
    with pytest.raises(ConfigurationError, match=r"IOT_KEYSPACE=A.*IOT_PARTITIONS=x"):
        Settings.from_env({"IOT_PARTITIONS": "x", "IOT_KEYSPACE": "A"})


def test_a_misspelt_setting_is_refused_rather_than_ignored():
    with pytest.raises(ConfigurationError, match=r"IOT_DEVICE_LIMITS: no such.* are `groups:` in"):
        Settings.from_env({"IOT_DEVICE_LIMITS": "limits.yaml"})
    with pytest.raises(ConfigurationError, match="IOT_TOPC: no such setting"):
        Settings.from_env({"IOT_TOPC": "x"})


def test_every_setting_has_a_description_for_the_person_who_lists_them():
    assert all(description for _, _, description, _ in Settings.from_env({}).rows())


def test_every_pattern_is_told_in_words():
    fields = Settings.model_fields.items()
    patterns = [n for n, f in fields if any(getattr(m, "pattern", None) for m in f.metadata)]
    assert "topic" in patterns
    assert all(form_of(Settings, name) for name in patterns)


def test_every_limit_that_its_owner_declares_is_a_setting_with_that_default():
    settings = Settings.from_env({})
    assert settings.reading_rules == ReadingRules()
    assert settings.quality_limits == QualityLimits(QUANTITIES)


@pytest.mark.parametrize(
    ("variable", "value", "read"),
    [
        ("IOT_TEMPERATURE_MIN", "-1", lambda s: s.reading_rules.quantities[0].least),
        ("IOT_HUMIDITY_MAX", "99", lambda s: s.reading_rules.quantities[1].greatest),
        ("IOT_MAX_VALUE_BYTES", "100", lambda s: s.reading_rules.max_value_bytes),
        ("IOT_PLAUSIBLE_HUMIDITY_MIN", "7", lambda s: s.quantities[1].plausible_least),
        ("IOT_PLAUSIBLE_TEMPERATURE_MAX", "7", lambda s: s.quantities[0].plausible_greatest),
        ("IOT_JUMP_TEMPERATURE", "7", lambda s: s.quality_limits.quantities[0].jump),
        ("IOT_JUMP_HUMIDITY_PER_MINUTE", "7", lambda s: s.quantities[1].jump_per_minute),
        ("IOT_DEVIATION_TEMPERATURE", "7", lambda s: s.quality_limits.quantities[0].apart),
        ("IOT_STUCK_READINGS", "7", lambda s: s.quality_limits.stuck_readings),
        ("IOT_COMPLETE_SHARE", "0.5", lambda s: s.quality_limits.complete_share),
    ],
)
def test_a_limit_that_is_set_is_the_one_that_decides(variable, value, read):
    assert read(Settings.from_env({variable: value})) == float(value)


def _iot(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("IOT_")}
    return subprocess.run(
        [sys.executable, "-c", "from iot_pipeline.cli.main import main; main()", *arguments],
        cwd=folder,
        env={**clean, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_environment_beats_dotenv_which_beats_the_default(tmp_path):
    (tmp_path / ".env").write_text("IOT_TOPIC=from_dotenv\nIOT_KEYSPACE=from_dotenv\n")
    answer = _iot(tmp_path, "settings", "--json", IOT_TOPIC="from_environment")
    values = json.loads(answer.stdout)
    assert values["IOT_TOPIC"] == "from_environment"
    assert values["IOT_KEYSPACE"] == "from_dotenv"
    assert values["IOT_PARTITIONS"] == "4"


SERVICE_LINKS = {
    "IOT_KAFKA_SERVICE_HOST": "10.0.0.7",
    "IOT_KAFKA_SERVICE_PORT": "9092",
    "IOT_KAFKA_SERVICE_PORT_CLIENTS": "9092",
    "IOT_KAFKA_PORT": "tcp://10.0.0.7:9092",
    "IOT_KAFKA_PORT_9092_TCP": "tcp://10.0.0.7:9092",
    "IOT_KAFKA_PORT_9092_TCP_PROTO": "tcp",
    "IOT_KAFKA_PORT_9092_TCP_PORT": "9092",
    "IOT_KAFKA_PORT_9092_TCP_ADDR": "10.0.0.7",
    "IOT_WEB_UI_SERVICE_HOST": "10.0.0.8",
}


def test_what_an_orchestrator_injects_is_no_setting_and_is_named(tmp_path):
    assert Settings.from_env(SERVICE_LINKS).kafka_port == 9092
    assert Settings.from_env({"IOT_KAFKA_PORT": "9193"}).kafka_port == 9193
    with pytest.raises(ConfigurationError, match="IOT_KAFKA_PORT=http://x"):
        Settings.from_env({"IOT_KAFKA_PORT": "http://x"})
    said = _iot(tmp_path, "settings", **SERVICE_LINKS).stdout
    assert "ignored: IOT_KAFKA_PORT=tcp://10.0.0.7:9092, " in said
    assert "`enableServiceLinks: false`" in said


def test_where_each_value_comes_from_is_listed_and_whether_there_is_a_dotenv(tmp_path):
    said = _iot(tmp_path, "settings", IOT_TOPIC="mine").stdout
    assert f"there is no {tmp_path / '.env'}: " in said
    (tmp_path / ".env").write_bytes(b"\xef\xbb\xbfIOT_KAFKA_PORT=9193\nIOT_TOPIC=theirs\n")
    said = _iot(tmp_path, "settings", IOT_TOPIC="mine", IOT_KEYSPACE="iot_data").stdout
    assert f"read: {tmp_path / '.env'}" in said
    origins = {line.split()[0]: line for line in said.splitlines() if line.startswith("IOT_")}
    assert "environment" in origins["IOT_TOPIC"]
    assert "environment" in origins["IOT_KEYSPACE"], "set, though it is the default"
    assert " .env " in origins["IOT_KAFKA_PORT"]
    assert "127.0.0.1:9193" in origins["IOT_BOOTSTRAP_SERVERS"]
    assert " IOT_KAFKA_PORT " in origins["IOT_BOOTSTRAP_SERVERS"]
    rest = [line for name, line in origins.items() if name.startswith("IOT_CASSANDRA")]
    assert not any("environment" in line or " .env " in line for line in rest)


def test_servers_that_are_away_are_perhaps_those_of_another_folder(tmp_path):
    answer = _iot(tmp_path, "lag")
    assert answer.returncode == 75, "nothing answers at the default addresses of a test machine"
    assert f"no IOT_ variable is set and there is no {tmp_path / '.env'}: these" in answer.stderr


def test_a_wrong_setting_ends_a_command_with_exit_code_2_before_any_connection(tmp_path):
    # Port 1 answers nobody: were it contacted, the message would speak of Kafka.
    answer = _iot(
        tmp_path, "drain", IOT_BOOTSTRAP_SERVERS="127.0.0.1:1", IOT_MICRO_BATCH_RECORDS="0"
    )
    assert answer.returncode == 2
    assert "IOT_MICRO_BATCH_RECORDS=0" in answer.stderr
    assert "Kafka" not in answer.stderr
    assert answer.stdout == ""


def test_help_answers_without_any_server(tmp_path):
    answer = _iot(tmp_path, "--help")
    assert answer.returncode == 0
    for command in ("up", "setup", "simulate", "drain", "settings"):
        assert command in answer.stdout


def test_an_unknown_option_is_wrong_usage(tmp_path):
    answer = _iot(tmp_path, "drain", "--nonsense")
    assert answer.returncode == 2
    assert "--nonsense" in answer.stderr
