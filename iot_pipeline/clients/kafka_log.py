"""A topic as a whole: its identity, its ends, its records, and the mirror of the checkpoint."""

import logging
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from confluent_kafka import (
    IsolationLevel,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import ConfigResource, OffsetSpec, ResourceType

from iot_pipeline.clients.kafka import Heard, client_config, lacking
from iot_pipeline.clients.kafka_commits import GroupOffsets, PendingCommit
from iot_pipeline.clients.kafka_errors import translate
from iot_pipeline.clients.kafka_leaders import in_dispute
from iot_pipeline.clients.kafka_questions import KafkaQuestions
from iot_pipeline.clients.kafka_source import KafkaRangeSource, spans_of
from iot_pipeline.clients.unreadable import Explainer
from iot_pipeline.core.ingest.stopped import sum_up
from iot_pipeline.core.reading.lag import Held, OpenTransaction
from iot_pipeline.core.reading.messages import Record
from iot_pipeline.core.reading.offsets import OffsetRange, TopicInfo, Watermarks, join_ranges
from iot_pipeline.core.rights.grants import DESCRIBE, DESCRIBE_CONFIGS, GROUP, READ, TOPIC
from iot_pipeline.errors import (
    KafkaUnavailableError,
    MissingRightError,
    PermanentError,
    PipelineError,
)
from iot_pipeline.settings import Settings

if TYPE_CHECKING:
    from iot_pipeline.clients.kafka_raw import RawKafka

_READ_AGAIN_SECONDS = 30.0
_log = logging.getLogger(__name__)

# Kafka's answer to a time that is later than every record.
_NOTHING_SO_LATE = -1


class KafkaLog:
    """A `RecordLogReader`; nothing is contacted before it is asked.

    Args:
        settings: where the brokers are, the consumer group, whether producers may stamp.
        timeout_seconds: how long one question may take; sensors take few seconds.

    Raises:
        KafkaUnavailableError: no broker answered in time.
        ConfigurationError: none has ever answered, and none can by these settings.
        PermanentError: the same, and their certificate is at fault.
        SchemaMismatchError: the topic does not exist.
    """

    def __init__(self, settings: Settings, *, timeout_seconds: float = 10.0) -> None:
        self.settings = settings
        self._timeout = timeout_seconds
        self._config = client_config(settings)
        self._heard = Heard()
        self._questions = KafkaQuestions(settings, self._config, self._heard, timeout_seconds)
        self._raw_client: RawKafka | None = None
        self._explainer = Explainer(self._raw, self._stamped_by)
        self._group_offsets: GroupOffsets | None = None
        self._mirrored: PendingCommit | None = None
        self._to_mirror: tuple[str, dict[int, int]] | None = None
        self._may_mirror = True

    def _raw(self) -> "RawKafka":
        if self._raw_client is None:
            # 150 ms that no command should pay before there is trouble.
            from iot_pipeline.clients.kafka_raw import RawKafka

            self._raw_client = RawKafka(self.settings, self._timeout)
        return self._raw_client

    @property
    def _group(self) -> GroupOffsets:
        if self._group_offsets is None:
            self._group_offsets = GroupOffsets(
                self._config, self.settings.consumer_group, self._heard, self._timeout
            )
        return self._group_offsets

    def describe(self, topic: str) -> TopicInfo:
        doing = f"describing topic {topic}"
        description = self._describe(topic, doing)
        return TopicInfo(
            topic,
            str(description.topic_id),
            len(description.partitions),
            self._config_of(topic, doing),
            min(len(partition.replicas) for partition in description.partitions),
        )

    def _config_of(self, topic: str, doing: str) -> dict[str, str] | MissingRightError:
        resource = ConfigResource(ResourceType.TOPIC, topic)
        right = lacking(self._config, DESCRIBE_CONFIGS, TOPIC, topic)
        try:
            (config,) = self._questions.ask(
                lambda admin, seconds: admin.describe_configs([resource], request_timeout=seconds),
                doing,
                right,
            ).values()
        except MissingRightError as exc:
            return exc
        return {name: entry.value for name, entry in config.items()}

    def count_brokers(self) -> int:
        (cluster,) = self._questions.ask(
            lambda admin, seconds: {0: admin.describe_cluster(request_timeout=seconds)},
            "asking for the brokers",
        ).values()
        return len(cluster.nodes)

    def bytes_per_record(self, topic: str, partition: int, offset: int) -> float | None:
        batches = self._raw().batches(topic, partition, offset, 1)
        return batches[0].size_bytes / batches[0].records if batches else None

    def topic_id(self, topic: str) -> str:
        return str(self._describe(topic, f"asking for the UUID of topic {topic}").topic_id)

    def _describe(self, topic: str, doing: str) -> Any:
        (description,) = self._questions.ask(
            lambda admin, seconds: admin.describe_topics(
                TopicCollection([topic]), request_timeout=seconds
            ),
            doing,
            lacking(self._config, DESCRIBE, TOPIC, topic),
        ).values()
        return description

    def watermarks(
        self,
        topic: str,
        *,
        only: Collection[int] | None = None,
        silent: dict[int, PipelineError] | None = None,
    ) -> list[Watermarks]:
        doing = f"reading the watermarks of {topic}"
        partitions = [
            TopicPartition(topic, number)
            for number in range(len(self._describe(topic, doing).partitions))
            if only is None or number in only
        ]
        # The end first: a log that is cleaned meanwhile then shows a low watermark above it,
        # never a range of records that are gone.
        last = self._list_offsets(partitions, OffsetSpec.latest(), doing, silent=silent)
        low = self._list_offsets([*last], OffsetSpec.earliest(), doing, silent=silent)
        return [
            Watermarks(p.partition, low[p], max(low[p], last[p])) for p in partitions if p in low
        ]

    def in_dispute(self, topic: str, partitions: Iterable[int]) -> dict[int, PipelineError]:
        return in_dispute(self._config, topic, partitions, "planning")

    def offsets_at(self, topic: str, moment: datetime) -> dict[int, int]:
        marks = self.watermarks(topic)
        spec = OffsetSpec.for_timestamp(int(moment.timestamp() * 1000))
        partitions = [TopicPartition(topic, mark.partition) for mark in marks]
        doing = f"looking for {moment} in {topic}"
        found = self._list_offsets(partitions, spec, doing, least=_NOTHING_SO_LATE)
        # -1: everything is older, so the range begins at the end.
        return {
            mark.partition: found[p] if found[p] >= 0 else mark.last_stable
            for p, mark in zip(partitions, marks, strict=True)
        }

    def held_back(self, topic: str, last_stable: Mapping[int, int]) -> dict[int, Held]:
        doing = f"looking for the end of {topic}"
        places = [TopicPartition(topic, partition) for partition in last_stable]
        latest = OffsetSpec.latest()
        ends = self._list_offsets(places, latest, doing, IsolationLevel.READ_UNCOMMITTED)
        further = [place for place, end in ends.items() if end > last_stable[place.partition]]
        # Asked after the ends: what only arrived between two questions is stable by now.
        now = self._list_offsets(further, latest, doing) if further else {}
        return {
            place.partition: Held(ends[place], self._stamp_at(topic, place.partition, at))
            for place in further
            if now[place] == (at := last_stable[place.partition])
        }

    def _stamp_at(self, topic: str, partition: int, offset: int) -> int | None:
        batches = self._raw().batches(topic, partition, offset, 1)
        return batches[0].newest_ms if batches else None

    def open_transactions(self, topic: str, partitions: Sequence[int]) -> list[OpenTransaction]:
        raw = self._raw()
        found = [
            (partition, producer)
            for partition, producers in sorted(raw.producers(topic, partitions).items())
            for producer in producers
            if producer.current_transaction_start_offset >= 0
        ]
        names = raw.transactional_ids([producer.producer_id for _, producer in found])
        return [
            OpenTransaction(
                partition,
                producer.current_transaction_start_offset,
                producer.producer_id,
                producer.producer_epoch,
                self._stamp_at(topic, partition, producer.current_transaction_start_offset),
                names.get(producer.producer_id),
            )
            for partition, producer in found
        ]

    def _list_offsets(
        self,
        partitions: list[Any],
        spec: Any,
        doing: str,
        isolation_level: Any = IsolationLevel.READ_COMMITTED,
        least: int = 0,
        silent: dict[int, PipelineError] | None = None,
    ) -> dict[Any, int]:
        """The offsets of partitions, in order; `silent` as `watermarks` has it.

        Raises:
            KafkaUnavailableError: of a partition there is none. Seen once, without an error, with
                three brokers of which two had just come back: -1001, which taken for where the log
                begins would make a loss of 1,001 records of it.
        """

        def question(admin: Any, seconds: float) -> Any:
            return admin.list_offsets(
                dict.fromkeys(partitions, spec),
                isolation_level=isolation_level,
                request_timeout=seconds,
            )

        if silent is None:
            answers = self._questions.ask(question, doing)
        else:
            answers, missing = self._questions.ask_known(question, doing)
            silent |= {place.partition: error for place, error in missing.items()}
        found = {p: answers[p].offset for p in partitions if p in answers}
        for place in [p for p, offset in found.items() if offset < least]:
            error = KafkaUnavailableError(
                f"{doing}: Kafka names no offset of partition {place.partition}: another broker "
                "takes it over"
            )
            if silent is None:
                raise error
            silent[place.partition] = error
            del found[place]
        return found

    def open_ranges(self, topic: str, ranges: Sequence[OffsetRange]) -> KafkaRangeSource:
        return KafkaRangeSource(
            self._config,
            topic,
            ranges,
            # Of a letter it does not matter whose clock says when it was sent.
            accept_producer_timestamps=self.settings.accept_producer_timestamps
            or topic == self.settings.dead_letter_topic,
            explainer=self._explainer,
        )

    def _stamped_by(self, topic: str) -> str:
        return self.describe(topic).stamped_by

    def read_offsets(self, topic: str, offsets: Iterable[tuple[int, int]]) -> list[Record]:
        records: list[Record] = []
        for partition, offset in sorted(offsets):
            wanted = OffsetRange(partition, offset, offset + 1)
            found = list(self._read_again(topic, [wanted], read_uncommitted=False))
            if not found:
                raise PermanentError(
                    f"reading {topic}[{partition}] at {offset} again: Kafka has it no more"
                )
            records += found
        return records

    def find_skipped(self, topic: str, holes: Sequence[OffsetRange]) -> list[tuple[int, int]]:
        # What read_uncommitted finds there is of aborted transactions, unless a second
        # read_committed pass gives it out.
        spans = spans_of(holes)
        is_hole = _membership(holes)
        candidates = {
            (record.partition, record.offset)
            for record in self._read_again(topic, spans, read_uncommitted=True)
            if is_hole(record.partition, record.offset)
        }
        if not candidates:
            return []
        return sorted(
            (record.partition, record.offset)
            for record in self._read_again(topic, spans, read_uncommitted=False)
            if (record.partition, record.offset) in candidates
        )

    def _read_again(
        self, topic: str, ranges: Sequence[OffsetRange], *, read_uncommitted: bool
    ) -> Iterator[Record]:
        source = KafkaRangeSource(
            self._config,
            topic,
            ranges,
            accept_producer_timestamps=True,
            read_uncommitted=read_uncommitted,
            explainer=self._explainer,
        )
        quiet_since = time.monotonic()
        try:
            while len(source.finished) + len(source.stopped) < len(ranges):
                records = source.poll(0.1)
                yield from records
                now = time.monotonic()
                if records:
                    quiet_since = now
                elif now - quiet_since > _READ_AGAIN_SECONDS:
                    raise KafkaUnavailableError(
                        f"reading {topic} {', '.join(map(str, ranges))} again: nothing came for "
                        f"{_READ_AGAIN_SECONDS:g} s ({source.trouble or 'no error was reported'})"
                    )
            if source.stopped:
                raise sum_up(topic, source.stopped)
        finally:
            source.close()

    def mirror(self, topic: str, next_offsets: Mapping[int, int]) -> None:
        """Never waits.

        Raises:
            KafkaUnavailableError: the mirror before this one failed.
            MissingRightError: it was refused; said once, and none is sent any more.
        """
        if not next_offsets or not self._may_mirror:
            return
        # What waits unsent is kept: a partition that moved only then would show an old offset.
        unsent = self._to_mirror[1] if self._to_mirror and self._to_mirror[0] == topic else {}
        self._to_mirror = (topic, {**unsent, **next_offsets})
        if self._mirrored is not None and not self._mirrored.done():
            return  # the newest goes with the next call, or with close()
        self._send_mirror()

    def _send_mirror(self) -> None:
        before, self._mirrored = self._mirrored, None
        if self._to_mirror is not None:
            topic, offsets = self._to_mirror
            self._to_mirror = None
            self._mirrored = self._group.send(topic, offsets)
        if before is not None:
            group_id = self.settings.consumer_group
            try:
                before.result(timeout=0)
            except KafkaException as exc:
                error = translate(
                    exc,
                    f"mirroring offsets to group {group_id}",
                    at=self.settings.bootstrap_servers,
                    right=lacking(self._config, READ, GROUP, group_id),
                )
                if isinstance(error, MissingRightError):
                    self._may_mirror, self._mirrored, self._to_mirror = False, None, None
                raise error from exc

    def close(self) -> None:
        """Send the last mirror, waiting at most a second for it."""
        raw, self._raw_client = self._raw_client, None
        if raw is not None:
            raw.close()
        deadline = time.monotonic() + 1.0
        try:
            while self._mirrored is not None and time.monotonic() < deadline:
                if self._mirrored.done():
                    self._send_mirror()
                else:
                    time.sleep(0.005)
        except KafkaUnavailableError:
            # Lag tools see an old offset until the next run; the ledger is right.
            return
        except MissingRightError as exc:
            _log.warning("%s: without it lag tools see an old offset; the ledger is right", exc)
        finally:
            self._questions.close()
            self._group_offsets = None


def _membership(ranges: Iterable[OffsetRange]) -> Callable[[int, int], bool]:
    """Whether an offset lies in one of the ranges; compaction can leave millions, so no set."""
    starts: defaultdict[int, list[int]] = defaultdict(list)
    ends: defaultdict[int, list[int]] = defaultdict(list)
    for item in join_ranges(ranges):
        starts[item.partition].append(item.start)
        ends[item.partition].append(item.end)

    def is_inside(partition: int, offset: int) -> bool:
        at = bisect_right(starts[partition], offset) - 1
        return at >= 0 and offset < ends[partition][at]

    return is_inside
