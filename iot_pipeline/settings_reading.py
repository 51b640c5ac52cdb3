"""Which declaration of readings holds, and the settings that follow from its quantities."""

import json
from functools import cache, partial
from importlib import resources
from pathlib import Path

from pydantic import BaseModel, Field, create_model

from iot_pipeline.core.reading.contents import checked_schema
from iot_pipeline.core.reading.declaration import SEED, Declaration
from iot_pipeline.core.reading.declaration_file import parse_declaration, schema
from iot_pipeline.core.reading.formats import KINDS, FormatName, UndecodableError, WriterSchema
from iot_pipeline.core.reading.quantities import LIMITS
from iot_pipeline.core.rollups.statistics import STATISTICS
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.extras import require
from iot_pipeline.settings_sources import in_project

SCHEMA_NAME = "reading.schema.json"
# A quantity's columns and settings are called after it, with one of these behind.
_ENDINGS = ("min", "max", "count", *(statistic.name for statistic in STATISTICS))


def shipped_folder() -> Path:
    """Where the declaration of the original message is, and the schema for editors."""
    return Path(str(resources.files("iot_pipeline") / "declarations"))


def read_declaration(path: str) -> Declaration:
    """That of IOT_READING; a relative path begins at the project; empty: the original message.

    Raises:
        ConfigurationError: the file cannot be read, or is wrong.
    """
    if not path:
        return SEED
    try:
        return load_declaration(Path(in_project(path)), path)
    except ConfigurationError as exc:
        raise ConfigurationError(f"IOT_READING: {exc}") from None


def load_declaration(place: Path, source: str) -> Declaration:
    """The declaration in a file; `source` is what a person calls it.

    Raises:
        ConfigurationError: `source:line: what is wrong`.
    """
    try:
        text = place.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        why = getattr(exc, "strerror", None) or "not UTF-8"
        raise ConfigurationError(f"{source}: {why}") from None
    declaration = parse_declaration(text, source, _ENDINGS, partial(_read_schema, place.parent))
    if declaration.format.name == "avro":
        require("fastavro")
    elif declaration.format.name == "protobuf" and declaration.format.schema is None:
        # A registry answers with text; a file of descriptors needs nothing.
        require("grpc_tools")
    return declaration


def _read_schema(folder: Path, form: FormatName, name: str, message: str) -> WriterSchema:
    """The schema in a file; a relative path begins at the declaration."""
    place = folder / name
    try:
        content = place.read_bytes()
        if form == "protobuf" and place.suffix == ".proto":
            from iot_pipeline.proto_files import compile_file

            content = compile_file(place, place.stat().st_mtime_ns)
        return checked_schema(WriterSchema(KINDS[form], content, message=message))
    except OSError as exc:
        raise ConfigurationError(f"{name}: {exc.strerror}") from None
    except UndecodableError as exc:
        raise ConfigurationError(f"{name}: {exc}") from None


@cache
def declared_limits(declaration: Declaration) -> type[BaseModel]:
    """A setting for each limit of each quantity; its default is what is declared."""
    found = {}
    for quantity in declaration.quantities:
        # What is no number has none.
        for limit, about in LIMITS.items() if quantity.is_number else ():
            meaning = about["meaning"].format(unit=quantity.unit).strip("; ")
            default = getattr(quantity, limit)
            found[quantity.setting_of(limit)] = (
                float,
                Field(default, description=meaning, **about["bounds"]),
            )
    return create_model("Limits", **found)  # type: ignore[call-overload, no-any-return]


def schema_text() -> str:
    """The JSON schema as it is shipped: `python -m iot_pipeline.settings_reading` writes it."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    (shipped_folder() / SCHEMA_NAME).write_text(schema_text(), "utf-8")
