"""A declaration of another message than the original one, for tests."""

from iot_pipeline.core.reading.declaration import Declaration
from iot_pipeline.core.reading.declaration_file import parse_declaration

# One of its messages, and the YAML that takes it in.
SENSOR = (
    b'{"sensor":"a/1","ts":"2026-11-27T08:00:00+01:00",'
    b'"values":{"temp_c":21.5,"rh":40,"co2_ppm":612},"fw":"1.2"}'
)
SENSOR_YAML = """\
version: 1
device: {path: sensor}
time: {path: ts, as: iso8601}
quantities:
  temperature: {path: values.temp_c, unit: "°C", min: -100, max: 150, plausible: [-40, 50],
                jump: {at_once: 5, per_minute: 1}, apart: 12}
  humidity: {path: values.rh, unit: "%", min: 0, max: 100}
  co2: {path: values.co2_ppm, unit: ppm, min: 0, max: 10000, plausible: [300, 5000]}
"""


def declared(text: str) -> Declaration:
    return parse_declaration(text, "my.yaml")


def of_one(**keys: str) -> Declaration:
    """A declaration with these keys in the place of some: of_one(time="kafka")."""
    parts = {
        "device": "{path: d}",
        "time": "{path: t, as: seconds}",
        "quantities": "{x: {min: -100, max: 100}}",
    } | keys
    return declared("version: 1\n" + "".join(f"{key}: {said}\n" for key, said in parts.items()))
