"""Write services/*.lock: which jars the tags of docker-compose.yml stand for (`make lock`).

The only place where poms are resolved. `iot up` never does: it takes what is locked.
"""

import json
from pathlib import Path

import jgo
import msgspec

from iot_pipeline.errors import ServiceError
from iot_pipeline.local.compose import Service, find_definition, read_compose
from iot_pipeline.local.jars import LockedJar, sha256_of

# What an image's tag means in Maven coordinates. Each root is resolved alone: asked together
# with kafka_2.13, log4j's parent pom pulls kafka-clients down to another version.
ROOTS = {
    "kafka": (
        "org.apache.kafka:kafka_2.13:{version}",
        # Kafka's distribution carries this binding, its pom does not. Kafka is on slf4j 1.7:
        # never slf4j2-impl. The version is the log4j that Kafka 4.3.1 itself names.
        "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4",
    ),
    "cassandra": ("org.apache.cassandra:cassandra-all:{version}",),
}


def resolve_jars(service: Service) -> list[LockedJar]:
    """Resolve and fetch all jars of a service, through jgo, sorted by coordinates.

    Raises:
        ServiceError: two roots want different versions of one artifact.
    """
    jars: dict[tuple[str, str, str], LockedJar] = {}
    for root in ROOTS[service.kind]:
        for artifact in jgo.resolve(root.format(version=service.version)):
            if artifact.packaging != "jar":
                continue
            path = Path(artifact.resolve())
            key = (artifact.groupId, artifact.artifactId, artifact.classifier)
            jar = LockedJar(
                *(artifact.groupId, artifact.artifactId, artifact.version, artifact.classifier),
                sha256=sha256_of(path),
                size_bytes=path.stat().st_size,
            )
            if jars.setdefault(key, jar) != jar:
                raise ServiceError(
                    f"{root}: wants {jar.version} of {':'.join(key)}, another root "
                    f"{jars[key].version}"
                )
    return [jars[key] for key in sorted(jars)]


def write_lock(service: Service, path: Path) -> None:
    """Resolve the jars of a service, and write them down, a line each: a diff reads well."""
    jars = resolve_jars(service)
    lines = ",\n".join("    " + json.dumps(msgspec.to_builtins(jar)) for jar in jars)
    text = f'{{\n  "image": "{service.image}",\n  "jars": [\n{lines}\n  ]\n}}\n'
    path.write_text(text, encoding="utf-8")
    print(f"{path.name}: {len(jars)} jars for {service.image}")


def main() -> None:
    definition = find_definition()
    for service in read_compose(definition.compose_file, {}, Path("unused")).values():
        write_lock(service, definition.services_folder / f"{service.kind}.lock")


if __name__ == "__main__":
    main()
