"""`iot latest` on readings that lack a quantity; with servers it is in test_every_command."""

from iot_pipeline.cli.latest import _row
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.stages.fleet.latest import Newest


def test_what_a_reading_lacks_is_left_empty() -> None:
    device, _, _, *values = _row(Newest("d", 0, 1, (21.5, None)), QUANTITIES)
    assert (device, values) == ("d", ["21.5", None])
