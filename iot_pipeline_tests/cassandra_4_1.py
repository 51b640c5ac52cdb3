"""Cassandra 4.1 as a server of tests: from jars as 5.0 is, by the same compose file and settings.

`IOT_TEST_CASSANDRA_VERSION=4.1` runs every services test on it. `python -m
iot_pipeline_tests.cassandra_4_1` writes its lock (`make lock`).
"""

import shutil
from pathlib import Path

import yaml

from iot_pipeline.local.compose import Definition, find_definition, read_compose
from iot_pipeline.local.jar_locks import write_lock

VERSION = "4.1.10"
LOCK = Path(__file__).with_suffix(".lock")
# What 5.0's cassandra.yaml says that 4.1 does not know.
_NEWER = (
    "storage_compatibility_mode",
    "commitlog_disk_access_mode",
    "sstable",
    "memtable",
    "crypto_provider",
    "cidr_authorizer",
)
# Upstream supports 4.1 on Java 8 and 11. It runs on 17, which is the Java that is here for 5.0,
# when its older jamm may look into these packages.
_OPENED = (
    "java.util.concurrent",
    "java.util.concurrent.atomic",
    "java.util.concurrent.locks",
    "java.util.regex",
    "java.math",
    "java.net",
    "java.nio.file",
    "java.time",
    "sun.nio.fs",
)


def definition_in(folder: Path) -> Definition:
    """The project's services with Cassandra 4.1, made in `folder`."""
    ours = find_definition()
    made = Definition(folder / "docker-compose.yml", folder / "services")
    shutil.copytree(ours.services_folder, made.services_folder, dirs_exist_ok=True)
    (image,) = (
        service.image
        for service in read_compose(ours.compose_file, {}, folder).values()
        if service.kind == "cassandra"
    )
    compose = ours.compose_file.read_text(encoding="utf-8")
    made.compose_file.write_text(compose.replace(image, f"cassandra:{VERSION}"), encoding="utf-8")
    config = made.services_folder / "cassandra" / "cassandra.yaml"
    settings = yaml.safe_load(config.read_text(encoding="utf-8"))
    for name in _NEWER:
        del settings[name]
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    arguments = made.services_folder / "cassandra" / "jvm17.args"
    opened = "--add-opens java.base/"
    shipped = arguments.read_text(encoding="utf-8")
    _, _, to = next(line for line in shipped.splitlines() if line.startswith(opened)).partition("=")
    more = "".join(f"{opened}{name}={to}\n" for name in _OPENED)
    arguments.write_text(shipped + more, encoding="utf-8")
    if LOCK.is_file():
        shutil.copy(LOCK, made.services_folder / "cassandra.lock")
    return made


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        services = read_compose(definition_in(Path(place)).compose_file, {}, Path(place))
        write_lock(services["cassandra"], LOCK)
