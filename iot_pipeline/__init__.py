"""IoT readings from Kafka into Cassandra, orchestrated by Dagster, every offset accounted for.

Of use to a project that has its own Dagster: `build_definitions`, `Pipeline`, and the component
`KafkaToCassandra`. They are imported when they are asked for: `iot` needs none of Dagster.
"""

from importlib import import_module

_LAZY = {
    "KafkaToCassandra": "iot_pipeline.component",
    "Pipeline": "iot_pipeline.defs.pipeline",
    "build_definitions": "iot_pipeline.definitions",
}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
