"""YAML that a person writes: read strictly, and every place in it known by its line.

msgspec says where in the value something is wrong, PyYAML's nodes know where that is in the file.
"""

import re
from typing import Any

import msgspec
import yaml

from iot_pipeline.errors import ConfigurationError

_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice: YAML's own reader keeps the last of them."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        first: dict[str, int] = {}
        for key, _ in node.value:
            name = str(key.value)
            if name in first:
                raise ConfigurationError(
                    f"{self.name}:{first[name]}: {name} is given twice; expected once"
                )
            first[name] = key.start_mark.line + 1
        return node


def read_yaml(text: str, source: str, what: str) -> tuple[Any, yaml.Node]:
    """The value of a document, and its nodes; `source` is the file's name, `what` it should be.

    Raises:
        ConfigurationError: `source:line: what is wrong`: no YAML, nothing, or a key given twice.
    """
    try:
        loader = _Loader(text)
        loader.name = source
        node = loader.get_single_node()
        if node is None:
            raise ConfigurationError(f"{source}:1: the file is empty; expected {what}")
        return loader.construct_document(node), node
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark
        line = 1 if mark is None else mark.line + 1
        raise ConfigurationError(f"{source}:{line}: not YAML: {exc.problem}") from None
    except (yaml.YAMLError, ValueError) as exc:
        raise ConfigurationError(f"{source}: not YAML: {exc}") from None


def path_and_message(exc: msgspec.ValidationError) -> tuple[str, str]:
    """Where in the value something is wrong, such as $.groups[0].interval, and what."""
    message, _, path = str(exc).partition(" - at `")
    return path.rstrip("`") or "$", message


def find_line(node: yaml.Node, path: str) -> tuple[int, yaml.Node]:
    """The line of what a path such as $.groups[0].interval leads to, or of what comes nearest."""
    line = node.start_mark.line + 1
    for step in _STEP.finditer(path):
        key, index = step[1], step[2]
        if key is not None and isinstance(node, yaml.MappingNode):
            entry = next(((k, v) for k, v in node.value if k.value == key), None)
            if entry is None:
                break
            line, node = entry[0].start_mark.line + 1, entry[1]
        elif index is not None and isinstance(node, yaml.SequenceNode):
            if int(index) >= len(node.value):
                break
            node = node.value[int(index)]
            line = node.start_mark.line + 1
        else:
            break
    return line, node
