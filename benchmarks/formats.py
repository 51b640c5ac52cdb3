"""Messages of other formats than JSON: by which declaration, and a schema registry for them."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from iot_pipeline.clients.registry import SchemaRegistry
from iot_pipeline.core.simulator.encoding import encoder_of
from iot_pipeline.settings import Settings
from iot_pipeline.stages.simulator.writing import learn_to_write
from iot_pipeline_tests.apicurio import Apicurio

PLAIN = "json"
_READING = """
version: 1
format: {form}
device: {{path: device_id}}
time: {{path: timestamp, as: seconds}}
quantities:
  temperature: {{unit: "°C", min: -100, max: 150}}
  humidity: {{unit: "%", min: 0, max: 100}}
"""


@contextmanager
def registry(folder: Path) -> Iterator[dict[str, str]]:
    """A registry while it is needed, and the settings that say where it is."""
    server = Apicurio(folder)
    try:
        server.start()
        yield {"IOT_REGISTRY_URL": server.url}
    finally:
        server.stop()


def declared(form: str, folder: Path) -> dict[str, str]:
    """The settings of a pipeline whose messages are of a format; those of JSON say nothing."""
    if form == PLAIN:
        return {}
    file = folder / f"{form}.yaml"
    file.write_text(_READING.format(form=form))
    return {"IOT_READING": str(file)}


def encoder(settings: Settings) -> Callable[[bytes], bytes]:
    """What makes a message of the declared format of one of JSON."""
    rules = settings.reading_rules
    if rules.declaration.format.name == PLAIN:
        return bytes
    if rules.declaration.format.asks_registry:
        learn_to_write(rules, SchemaRegistry(settings), settings.topic)
    encode = encoder_of(rules.declaration, rules.schemas)
    return lambda value: encode(json.loads(value))
