"""Partitions that a run had to leave, each with its reason; it drains the others, then fails.

Belongs here: what is said of them together. Does not belong here: what a run does about one
(`stages.run_ingest`).
"""

from collections.abc import Mapping

from iot_pipeline.errors import PermanentError, PipelineError, TransientError


def sum_up(topic: str, stopped: Mapping[int, PipelineError]) -> PipelineError:
    """One error that names every stopped partition; that of a single one is left as it is.

    Its class is that of the errors where they have one class; else it is permanent as soon as one
    of them is. Reasons of one class are told once, in full, with the partitions they hold for.

    Args:
        stopped: by Kafka partition, not empty.
    """
    if len(stopped) == 1:
        (only,) = stopped.values()
        return only
    by_class: dict[type[PipelineError], list[int]] = {}
    for partition in sorted(stopped):
        by_class.setdefault(type(stopped[partition]), []).append(partition)
    said = []
    for partitions in by_class.values():
        first, *others = partitions
        more = f". The same kind of trouble in {_named(others)}" if others else ""
        said.append(f"{stopped[first]}{more}")
    text = f"{topic}: {_named(sorted(stopped))} stopped. {'. '.join(said)}"
    return _class_of(list(by_class))(text)


def _class_of(classes: list[type[PipelineError]]) -> type[PipelineError]:
    if len(classes) == 1:
        return classes[0]
    is_transient = all(issubclass(item, TransientError) for item in classes)
    return TransientError if is_transient else PermanentError


def _named(partitions: list[int]) -> str:
    word = "partition" if len(partitions) == 1 else "partitions"
    return f"{word} {', '.join(map(str, partitions))}"
