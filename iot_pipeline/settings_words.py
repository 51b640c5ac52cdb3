"""What is said of settings: their values, without secrets, and what is wrong with one."""

import re
from collections.abc import Mapping

from pydantic import BaseModel, SecretStr, ValidationError

from iot_pipeline.core.reading.quantities import NO_GREATEST, NO_LEAST
from iot_pipeline.settings_kafka import is_secret

HIDDEN = "********"
# Settings that there were, by name: what to do instead.
GONE = {"device_limits": "limits of some devices are `groups:` in the declaration of readings"}


def shown(value: object) -> str:
    """The value as a person would set it; a secret is hidden."""
    if isinstance(value, SecretStr):
        return HIDDEN if value.get_secret_value() else ""
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, float) and value in (NO_LEAST, NO_GREATEST):
        return "no limit"
    if isinstance(value, Mapping):
        return ",".join(f"{name}:{number}" for name, number in value.items())
    return str(value)


# What pydantic says of these is about parsing.
_EXPECTED = {
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "bool_parsing": "true or false",
}


def form_of(cls: type[BaseModel], name: str) -> str:
    """In words, what a setting with a pattern may be."""
    extra = cls.model_fields[name].json_schema_extra
    assert isinstance(extra, dict), f"{name} has a pattern and no form in words"
    return str(extra["form"])


# Of an address: it may be a password.
_LOGIN = re.compile(r"//[^/@\s]*@")


def explain(exc: ValidationError, cls: type[BaseModel]) -> str:
    """What is wrong with which variable, in words; secrets are not quoted."""
    lines = []
    for error in exc.errors():
        message = error["msg"].removeprefix("Value error, ")
        if not error["loc"]:
            lines.append(message)
            continue
        name = str(error["loc"][0])
        if (kind := error["type"]) in _EXPECTED:
            message = f"expected {_EXPECTED[kind]}"
        elif kind == "string_pattern_mismatch":
            message = f"expected {form_of(cls, name)}"
        given = _LOGIN.sub("//***@", str(error["input"]))
        value = HIDDEN if is_secret(cls, name) else given
        lines.append(
            f"IOT_{name.upper()}={value}: {message} ({cls.model_fields[name].description})"
        )
    return "; ".join(lines)
