"""The image, the compose file and the chart's values against what they stand on; nothing is built.

Built and run they were by hand: docs/deploy.md says what, and what could not be.
"""

import importlib.util
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from iot_pipeline.defs.instance import REDIS_URL, shipped_config
from iot_pipeline.defs.instance_needs import Needs
from iot_pipeline.settings import Settings
from iot_pipeline.settings_kafka import is_secret

ROOT = Path(__file__).parent.parent
COMPOSE = ROOT / "deploy" / "compose.yml"
WORKERS = ROOT / "deploy" / "compose.workers.yml"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = dict(
    re.findall(r"^([a-z0-9._-]+)(?:\[.*\])?==(\S+)", (ROOT / "requirements.lock").read_text(), re.M)
)


def dockerfile() -> list[tuple[str, str]]:
    """Its instructions in order, each with what follows on one line."""
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    text = re.sub(r"^#.*\n", "", text, flags=re.M).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]  # type: ignore[misc]


def of_kind(kind: str) -> list[str]:
    return [rest for name, rest in dockerfile() if name == kind]


def compose(path: Path = COMPOSE) -> Any:
    """With each variable's default in its place; of one without a default, what a person sets."""
    text = re.sub(r"\$\{\w+:\?[^}]*\}", "typed", path.read_text())
    return yaml.safe_load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text))


@pytest.fixture(scope="module")
def values() -> Any:
    return yaml.safe_load((ROOT / "deploy" / "helm" / "values.yaml").read_text())


def code_location(values: Any) -> Any:
    (found,) = values["dagster-user-deployments"]["deployments"]
    return found


def env_of(values: Any) -> dict[str, str]:
    return {item["name"]: item["value"] for item in code_location(values)["env"]}


def user() -> int:
    uid, _, gid = of_kind("USER")[-1].partition(":")
    assert uid == gid
    return int(uid)


def test_the_image_takes_extras_packages_and_files_that_exist() -> None:
    arguments = dict(item.split("=", 1) for item in of_kind("ARG"))
    assert set(arguments["EXTRAS"].split(",")) <= set(PROJECT["optional-dependencies"])
    assert set(arguments["PACKAGES"].split()) <= set(LOCK), "what is tested is what is installed"
    image, _, tag = arguments["BASE"].rpartition(":")
    assert image.count("/") == 2
    assert re.match(r"3\.\d+-", tag)
    let_in = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.M)
    for line in of_kind("COPY"):
        *sources, _ = [part for part in shlex.split(line) if not part.startswith("--")]
        for source in [] if "--from" in line else sources:
            assert (ROOT / source).exists(), source
            assert any(Path(source).match(pattern) for pattern in let_in), source
    copied = " ".join(of_kind("COPY"))
    bundled = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert all(name in copied for name in bundled["targets"]["wheel"]["force-include"])


def test_the_lock_is_read_as_versions_with_their_markers(tmp_path: Path) -> None:
    (command,) = re.findall(r"sed -n '[^']*' requirements\.lock", " ".join(of_kind("RUN")))
    lines = subprocess.run(
        shlex.split(command), cwd=ROOT, capture_output=True, check=True, text=True
    )
    found = lines.stdout.splitlines()
    assert len(found) == len(
        re.findall("==.* \\\\$", (ROOT / "requirements.lock").read_text(), re.M)
    )
    assert all(re.match(r"[a-z0-9._-]+==[^ \\]+( ; .+)?$", line) for line in found)


def test_the_image_is_of_a_user_that_is_not_root_and_holds_no_secret() -> None:
    assert user() >= 1000
    assert f"--uid {user()}" in " ".join(of_kind("RUN"))
    variables = dict(part.split("=", 1) for line in of_kind("ENV") for part in line.split())
    ours = {name for name in variables if name.startswith("IOT_")}
    assert ours <= names_of_settings()
    assert not any(re.search("PASSWORD|SECRET|TOKEN|KEY", name) for name, _ in dockerfile_names())


def dockerfile_names() -> Iterator[tuple[str, str]]:
    for kind in ("ARG", "ENV"):
        for line in of_kind(kind):
            for part in line.split():
                name, _, value = part.partition("=")
                yield name, value


def names_of_settings() -> set[str]:
    return {f"IOT_{name.upper()}" for name in Settings.model_fields}


def test_the_code_location_listens_where_everything_looks_for_it(values: Any) -> None:
    command = json.loads(of_kind("CMD")[-1])
    port = of_kind("EXPOSE")[-1]
    assert command[command.index("--port") + 1] == port
    health = json.loads(of_kind("HEALTHCHECK")[-1].partition("CMD ")[2])
    assert health[health.index("--port") + 1] == port
    module = command[command.index("--module-name") + 1]
    assert importlib.util.find_spec(module) is not None
    workspace = yaml.safe_load((ROOT / "deploy" / "workspace.yaml").read_text())
    ((found,),) = (item.values() for item in workspace["load_from"])
    assert (found["host"], str(found["port"])) == ("code", port)
    services = compose()["services"]
    assert services["code"]["hostname"] == "code"
    for name in ("daemon", "webserver"):
        told = services[name]["command"]
        mounted = f"./workspace.yaml:{told[told.index('--workspace') + 1]}:ro"
        assert mounted in services[name]["volumes"]
    assert code_location(values)["codeServerArgs"] == ["--module-name", module]


@pytest.mark.parametrize("path", [COMPOSE, WORKERS], ids=lambda path: path.stem)
def test_the_compose_file_follows_the_compose_specification(path: Path) -> None:
    checked = subprocess.run(
        [
            *(sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"),
            str(path),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_containers_get_settings_that_exist_and_fit_together() -> None:
    services = compose()["services"]
    for name in ("prepare", "code", "daemon", "webserver"):
        env = services[name]["environment"]
        assert Settings.from_env(env).bootstrap_servers == "kafka:19092"
        assert services[name]["image"] == f"iot-pipeline:{PROJECT['version']}"
    asked = re.findall(r"\$\{(IOT_\w+)", COMPOSE.read_text())
    assert set(asked) <= names_of_settings(), "where it is set, `iot` reads it too"
    home = services["prepare"]["command"]
    assert home[1:3] == ["-m", "iot_pipeline.defs.instance"]
    assert (
        home[3] == dict(part.split("=", 1) for part in of_kind("ENV")[-1].split())["DAGSTER_HOME"]
    )
    for name in ("code", "daemon", "webserver"):
        assert f"home:{home[3]}" in services[name]["volumes"]
        assert services[name]["depends_on"]["prepare"]["condition"].endswith(
            "completed_successfully"
        )
    root = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for name in ("kafka", "cassandra"):
        assert services[name]["extends"] == {"file": "../docker-compose.yml", "service": name}
        assert name in root


def test_images_have_a_tag_and_no_password_has_a_default() -> None:
    text = COMPOSE.read_text()
    for item in compose()["services"].values():
        if image := item.get("image"):
            assert re.search(r":\d", image), image
    assert set(re.findall(r"\$\{(\w*PASSWORD\w*)(..)", text)) == {
        ("DAGSTER_POSTGRES_PASSWORD", ":?")
    }
    assert {
        p.rpartition(":")[0].count("127.0.0.1") for p in compose()["services"]["webserver"]["ports"]
    } == {1}


def test_workers_beside_it_take_the_runs_that_the_others_hand_out() -> None:
    base, more = compose()["services"], compose(WORKERS)["services"]
    told = {
        more[name]["environment"][REDIS_URL] for name in ("prepare", "code", "daemon", "worker")
    }
    assert told == {"redis://:typed@redis:6379/0"}
    assert set(base) & set(more) == {"prepare", "code", "daemon", "webserver"}
    assert "hostname" not in {**base["daemon"], **more["worker"]}, "workers would be one machine"
    command = more["worker"]["command"]
    assert importlib.util.find_spec(command[command.index("-A") + 1]) is not None
    assert set(more["prepare"]["build"]["args"]["EXTRAS"].split(",")) == {
        *dict(item.split("=", 1) for item in of_kind("ARG"))["EXTRAS"].split(","),
        "celery",
    }
    slots = int(command[command.index("--concurrency") + 1])
    lanes = int(base["code"]["environment"]["IOT_LANES"])
    assert (
        2 * slots
        >= yaml.safe_load(shipped_config(lanes))["concurrency"]["runs"]["max_concurrent_runs"]
    ), "two of them, as the file says"
    assert set(re.findall(r"\$\{(\w*PASSWORD\w*)(..)", WORKERS.read_text())) == {
        ("DAGSTER_REDIS_PASSWORD", ":?")
    }


def secrets_in(env: Mapping[str, str]) -> list[str]:
    return [name for name in env if is_secret(Settings, name[4:].lower())]


def test_the_charts_values_have_settings_that_exist_and_no_secret(values: Any) -> None:
    env = env_of(values)
    assert not secrets_in(env)
    # The secrets come by `envSecrets`, which this file does not have.
    settings = Settings.from_env({**env, "IOT_CASSANDRA_PASSWORD": "typed"})
    assert settings.rollup_start is not None, "its pod forgets the first day"
    deployment = code_location(values)
    mounted = {item["mountPath"] for item in deployment["volumeMounts"]}
    assert {str(settings.data_dir), "/tmp"} <= mounted
    names = {item["name"] for item in deployment["volumes"] if "emptyDir" in item}
    assert {item["name"] for item in deployment["volumeMounts"]} == names
    assert deployment["image"]["tag"] == PROJECT["version"]
    assert f"--version {LOCK['dagster']} " in (ROOT / "deploy" / "helm" / "values.yaml").read_text()
    assert settings.memory_budget_mb + 512 <= 768, "what a pod asks for holds a lane"
    assert deployment["resources"]["requests"]["memory"] == "768Mi"


def test_every_pod_of_ours_is_the_user_of_the_image_and_writes_to_no_layer(values: Any) -> None:
    deployment = code_location(values)
    launcher = values["runLauncher"]["config"]["k8sRunLauncher"]
    of_pods = [
        (deployment["podSecurityContext"], deployment["securityContext"]),
        (
            launcher["runK8sConfig"]["podSpecConfig"]["securityContext"],
            launcher["securityContext"],
        ),
    ]
    for pod, container in of_pods:
        assert pod["runAsNonRoot"] is True
        assert pod["runAsUser"] == pod["fsGroup"] == user()
        assert container["readOnlyRootFilesystem"] is True
        assert container["allowPrivilegeEscalation"] is False
    assert launcher["runK8sConfig"]["jobSpecConfig"]["backoffLimit"] == 0


def instance_config(values: Any) -> dict[str, Any]:
    """The part of the chart's dagster.yaml that these values say."""
    daemon = values["dagsterDaemon"]
    queue = daemon["runCoordinator"]["config"]["queuedRunCoordinator"]
    return {
        "run_coordinator": {
            "module": "dagster.core.run_coordinator",
            "class": daemon["runCoordinator"]["type"],
            "config": {snake(name): value for name, value in queue.items()},
        },
        "run_monitoring": {snake(name): value for name, value in daemon["runMonitoring"].items()},
        "python_logs": {snake(name): value for name, value in values["pythonLogs"].items()},
        "retention": {
            kind: {"purge_after_days": values["retention"][kind]["purgeAfterDays"]}
            for kind in ("sensor", "schedule")
        },
    }


def snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda found: f"_{found[0].lower()}", name)


def test_the_charts_instance_lacks_nothing_and_has_the_shipped_limits(
    values: Any, tmp_path: Path
) -> None:
    lanes = int(env_of(values)["IOT_LANES"])
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(instance_config(values)))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert Needs.of(instance, lanes).find_lacks() == []
    shipped = yaml.safe_load(shipped_config(lanes))["concurrency"]["runs"]
    queue = values["dagsterDaemon"]["runCoordinator"]["config"]["queuedRunCoordinator"]
    assert {
        snake(name): queue[name] for name in ("maxConcurrentRuns", "tagConcurrencyLimits")
    } == shipped
