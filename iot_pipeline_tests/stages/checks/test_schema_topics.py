"""Topics that were made a moment ago."""

from iot_pipeline.errors import SchemaMismatchError
from iot_pipeline.stages.schema import wait_for_topic
from iot_pipeline_tests.stages.fakes import FakeLog


class LateReader(FakeLog):
    """A broker that hears of a topic only after it was asked some times."""

    def __init__(self, unknown_times: int) -> None:
        super().__init__()
        self.left = unknown_times

    def topic_id(self, topic: str) -> str:
        self.left -= 1
        if self.left >= 0:
            raise SchemaMismatchError(f"no topic {topic}")
        return "uuid"


def test_a_topic_that_the_broker_has_not_heard_of_yet_is_waited_for() -> None:
    reader = LateReader(3)
    wait_for_topic(reader, "t")
    assert reader.left == -1


def test_the_wait_for_a_topic_ends() -> None:
    reader = LateReader(1_000_000)
    wait_for_topic(reader, "t", timeout_seconds=0.2)
    assert reader.left > 999_900
