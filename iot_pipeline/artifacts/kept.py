"""Small values in files of the data folder: each is whole or not there, and losing it costs little.

`first_day` is the first day of the rollups' partitions: definitions are loaded without a server, so
they cannot ask for it, and the sensor of the rollups writes it. `last_drawing` is when pictures
were drawn last: what that took decides how long it rests, so a busy machine, a large fleet or a
cold start make pictures rarer, never ingestion slower.
"""

from datetime import date

import msgspec

from iot_pipeline.files import Kept
from iot_pipeline.settings import Settings

# Of the time that passes: half a second a minute.
_SHARE = 0.5 / 60
LEAST_REST_SECONDS = 60.0


class LastDrawing(msgspec.Struct):
    """When pictures were drawn last, by which run, and how long it took, asking included."""

    drawn_ms: int = 0
    drawn_by: str = ""
    cost_seconds: float = 0.0

    def is_over(self, now_ms: int) -> bool:
        """Whether pictures may be drawn again; a clock that was set back does not stop them."""
        rest_ms = max(LEAST_REST_SECONDS, self.cost_seconds / _SHARE) * 1000
        return not self.drawn_ms <= now_ms < self.drawn_ms + rest_ms


def first_day(settings: Settings) -> Kept[date]:
    """The day with which the readings of the topic begin."""
    return Kept(settings.data_dir / "rollups" / f"{settings.topic}.first_day", date)


def last_drawing(settings: Settings) -> Kept[LastDrawing]:
    return Kept(settings.data_dir / "pictures" / f"{settings.topic}.json", LastDrawing)
