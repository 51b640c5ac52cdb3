"""What `iot check-instance` says of an instance; no server takes part."""

import os
from pathlib import Path
from unittest import mock

import dagster as dg
import pytest
import yaml
from click.testing import CliRunner

from iot_pipeline.cli import check_instance
from iot_pipeline.cli.check_instance import check_instance_command
from iot_pipeline.defs.instance import CONFIG_NAME, prepare_instance, shipped_config
from iot_pipeline.defs.instance_needs import Needs
from iot_pipeline.errors import ConfigurationError


def lacks_of(home: Path, text: str, lanes: int = 1) -> list[str]:
    (home / CONFIG_NAME).write_text(text)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        return [
            f"{lack.key}: {lack.consequence}" for lack in Needs.of(instance, lanes).find_lacks()
        ]


def test_an_instance_that_does_not_open_in_time_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / CONFIG_NAME
    config.write_text(shipped_config())
    monkeypatch.setattr(check_instance, "_LONGEST_SECONDS", 0.01)
    with (
        mock.patch.dict(os.environ, {"DAGSTER_HOME": str(tmp_path)}),
        pytest.raises(ConfigurationError, match="did not open this instance within"),
    ):
        CliRunner().invoke(check_instance_command, catch_exceptions=False)


@pytest.mark.parametrize("lanes", [1, 2, 8])
def test_the_shipped_instance_lacks_nothing_with_any_number_of_lanes(
    tmp_path: Path, lanes: int
) -> None:
    assert lacks_of(tmp_path, shipped_config(lanes), lanes) == []
    config = yaml.safe_load(shipped_config(lanes))
    assert config["concurrency"]["runs"]["max_concurrent_runs"] == 6 + lanes


def test_dagsters_own_defaults_lack_the_lanes_and_the_monitoring(tmp_path: Path) -> None:
    found = lacks_of(tmp_path, "telemetry: {enabled: false}\n")
    assert [lack.partition(":")[0] for lack in found] == [
        "concurrency",
        "run_monitoring",
        "python_logs",
    ]
    assert "iot/lane" in found[0]


@pytest.mark.parametrize(
    ("changed", "lanes", "said"),
    [
        ({"concurrency": {"runs": {"max_concurrent_runs": 3}}}, 2, "max_concurrent_runs is 3"),
        ({"retention": {"sensor": {"purge_after_days": -1}}}, 1, "skipped ticks are kept"),
        (
            {
                "concurrency": {
                    "runs": {"tag_concurrency_limits": [{"key": "iot/lane", "limit": 1}]}
                }
            },
            1,
            "no limit of one run per value",
        ),
        ({"run_monitoring": {"enabled": False}}, 1, "run monitoring is off"),
        ({"python_logs": {}}, 1, "is not in that run's log"),
    ],
)
def test_each_lack_is_named_and_the_lines_mend_it(
    tmp_path: Path, changed: dict[str, object], lanes: int, said: str
) -> None:
    config = yaml.safe_load(shipped_config(lanes)) | changed
    found = lacks_of(tmp_path, yaml.safe_dump(config), lanes)
    assert said in " ".join(found)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        needs = Needs.of(instance, lanes)
        lines = yaml.safe_load(needs.lines_for(needs.find_lacks()))
    assert lacks_of(tmp_path, yaml.safe_dump(config | lines), lanes) == []


def test_the_command_reads_dagster_home_and_prints_lines_to_paste(tmp_path: Path) -> None:
    (tmp_path / CONFIG_NAME).write_text("telemetry: {enabled: false}\n")
    with mock.patch.dict(os.environ, {"DAGSTER_HOME": str(tmp_path), "IOT_LANES": "4"}):
        told = CliRunner().invoke(check_instance_command, [])
        assert told.exit_code == 1, told.output
        lines = yaml.safe_load(told.stdout)
        assert lines["concurrency"]["runs"]["max_concurrent_runs"] == 10
        (tmp_path / CONFIG_NAME).unlink()
        refused = CliRunner().invoke(check_instance_command, [])
        assert isinstance(refused.exception, ConfigurationError)
        prepare_instance(tmp_path, 4)
        assert CliRunner().invoke(check_instance_command, []).exit_code == 0


@pytest.mark.parametrize("text", ["run_queue: {", "telemetry: 7\n", "no_such_key: {}\n"])
def test_an_instance_that_dagster_cannot_open_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / CONFIG_NAME).write_text(text)
    with mock.patch.dict(os.environ, {"DAGSTER_HOME": str(tmp_path)}):
        refused = CliRunner().invoke(check_instance_command, [])
    assert isinstance(refused.exception, ConfigurationError)
    assert "Dagster cannot open this instance: " in str(refused.exception)
    assert "\n" not in str(refused.exception)
