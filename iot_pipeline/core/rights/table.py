"""The rights as a table of the documents."""

from collections.abc import Mapping
from dataclasses import dataclass

from iot_pipeline.core.rights.grants import Names
from iot_pipeline.core.rights.needed import COMMANDS, JOBS, Needs


@dataclass(frozen=True, slots=True)
class _Spoken:
    """Names as a document has them, which is about no topic of its own."""

    topic: str = "topic"
    dead_letter_topic: str = "dead letters"
    consumer_group: str = "the consumer group"
    keyspace: str = "keyspace"


def rights_table() -> str:
    """Markdown: every command and job, its role, its rights; those in brackets are optional."""
    lines = ["| command or job | role | Kafka | Cassandra |", "|---|---|---|---|"]
    for group, word in ((COMMANDS, "`iot {}`"), (JOBS, "job `{}`")):
        lines += _rows(group, word, _Spoken())
    return "\n".join(lines)


def _rows(group: Mapping[str, Needs], word: str, names: Names) -> list[str]:
    """Those of equal rights in one row."""
    same: dict[Needs, list[str]] = {}
    for name, needs in group.items():
        same.setdefault(needs.named(names), []).append(word.format(name))
    return [
        f"| {', '.join(found)} | {needs.role} | {_of_kafka(needs)} | {_of_cassandra(needs)} |"
        for needs, found in same.items()
    ]


def _of_kafka(needs: Needs) -> str:
    by_resource: dict[str, list[str]] = {}
    for right in needs.kafka:
        grant = right.grant
        about = grant.name if grant.kind != "transactional-id" else "transactional ids"
        by_resource.setdefault(about, []).append(_bracketed(grant.operation, right.lost))
    return "; ".join(f"{about}: {', '.join(found)}" for about, found in by_resource.items())


def _of_cassandra(needs: Needs) -> str:
    by_permission: dict[str, list[str]] = {}
    for right in needs.cassandra:
        about = right.grant.resource.removeprefix("TABLE keyspace.").removeprefix("TABLE ")
        about = about.replace("KEYSPACE keyspace", "the keyspace")
        by_permission.setdefault(right.grant.permission, []).append(_bracketed(about, right.lost))
    return "; ".join(f"{word} on {', '.join(found)}" for word, found in by_permission.items())


def _bracketed(text: str, lost: str) -> str:
    return f"({text})" if lost else text
