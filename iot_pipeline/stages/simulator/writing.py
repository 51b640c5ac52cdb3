"""By which schema a topic's messages are simulated: the newest, or one made of the declaration."""

from typing import Protocol

from iot_pipeline.core.reading.formats import KINDS, Unknown, WriterSchema
from iot_pipeline.core.reading.messages import ReadingRules
from iot_pipeline.errors import ConfigurationError


class Subjects(Protocol):
    """A schema registry, as one that writes to a topic asks it."""

    def newest(self, subject: str) -> tuple[int, WriterSchema | Unknown] | None: ...

    def register(self, subject: str, kind: str, text: str) -> int: ...

    def find(self, schema_id: int) -> WriterSchema | Unknown: ...


def learn_to_write(rules: ReadingRules, registry: Subjects, topic: str) -> None:
    """Have the rules know the newest schema of the topic, which is under the subject TOPIC-value.

    A topic that has none is given one, made of the declaration.

    Raises:
        ConfigurationError: the registry's schema is of another format, or cannot be read.
        RegistryUnavailableError: it does not answer.
    """
    form, subject = rules.declaration.format, f"{topic}-value"
    kind = KINDS[form.name]
    found = registry.newest(subject)
    if found is None:
        # Here, because it is needed once per topic.
        from iot_pipeline.core.simulator.encoding import first_schema

        schema_id = registry.register(subject, kind, first_schema(rules.declaration))
        found = schema_id, registry.find(schema_id)
    schema_id, schema = found
    if isinstance(schema, Unknown) or schema.kind != kind:
        what = schema.why if isinstance(schema, Unknown) else f"it is {schema.kind}"
        raise ConfigurationError(
            f"simulating: schema {schema_id} of {subject}: {what}; the declaration says {form.name}"
        )
    rules.schemas.writing = (schema_id, schema)
