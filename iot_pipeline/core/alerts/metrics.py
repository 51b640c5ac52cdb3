"""Every metric there is: name, kind, labels, and what it says; docs/metrics.md has this table.

By the conventions of Prometheus: base units, `_total` on what only grows. No metric has a device
among its labels; a Kafka partition is the finest there is.
"""

import bisect
import enum
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field


class Kind(enum.StrEnum):
    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric; `bounds` are the upper ends of a histogram's buckets."""

    name: str
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of a metric. Of a histogram: `value` is the sum, `counts` those up to each bound.

    The last count is of all, whatever the bounds.
    """

    metric: Metric
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)
    counts: tuple[int, ...] = ()


class Histogram:
    """Values counted by the bounds of their metric; one thread adds, another may read."""

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self._counts = [0] * (len(metric.bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        self._counts[bisect.bisect_left(self.metric.bounds, value)] += 1
        self._sum += value

    def sample(self) -> Sample:
        counts = tuple(itertools.accumulate(list(self._counts)))
        return Sample(self.metric, self._sum, counts=counts)


_PLACE = ("topic", "partition")
_CHECK = ("check", "table")
_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)

# From Kafka, the ledger and the checks: they outlive runs.
UP = Metric("iot_up", Kind.GAUGE, "1 when the server answered the last look, else 0", ("server",))
LAG_OFFSETS = Metric(
    "iot_lag_offsets", Kind.GAUGE, "offsets up to the last stable one, not ingested", _PLACE
)
LAG_SECONDS = Metric(
    "iot_lag_seconds", Kind.GAUGE, "age of the oldest record not ingested; 0: none waits", _PLACE
)
HELD_BACK = Metric(
    "iot_held_back_offsets", Kind.GAUGE, "offsets that an open transaction holds back", _PLACE
)
CHECKPOINT = Metric("iot_checkpoint_offset", Kind.GAUGE, "the next offset to ingest", _PLACE)
LOG_END = Metric("iot_last_stable_offset", Kind.GAUGE, "Kafka's last stable offset", _PLACE)
LAST_COMMIT = Metric(
    "iot_last_commit_timestamp_seconds",
    Kind.GAUGE,
    "when the newest entry of the ledger was last written",
    _PLACE,
)
OFFSETS = Metric(
    "iot_offsets_total",
    Kind.COUNTER,
    "offsets in the ledger by fate: stored, superseded, rejected, holes, ...",
    (*_PLACE, "fate"),
)
UNREAD = Metric(
    "iot_unread_offsets",
    Kind.GAUGE,
    "offsets below the checkpoint that were not read: expired, skipped, unreadable",
    (*_PLACE, "outcome"),
)
CHECK_LEVEL = Metric(
    "iot_check_level", Kind.GAUGE, "0 passed, 1 warning, 2 error, -1 could not look", _CHECK
)
CHECKED_AT = Metric(
    "iot_checks_looked_timestamp_seconds", Kind.GAUGE, "when all checks were last looked at"
)
DEVICES = Metric("iot_devices", Kind.GAUGE, "devices with readings of the last days")
DEVICES_SILENT = Metric(
    "iot_devices_silent", Kind.GAUGE, "devices silent for longer than their rhythm allows"
)
HEADROOM = Metric(
    "iot_retention_headroom_seconds",
    Kind.GAUGE,
    "how long Kafka keeps what is not read yet, at least",
)
LETTERS = Metric(
    "iot_dead_letters_last_hour",
    Kind.GAUGE,
    "of the newest 200 dead letters, those of the last hour by reason",
    ("reason",),
)
REJECTED = Metric(
    "iot_rejected_last_hour", Kind.GAUGE, "records of the last hour that were no readings"
)
AUDITED_AT = Metric("iot_audit_timestamp_seconds", Kind.GAUGE, "when the last audit began")
AUDITED = Metric("iot_audit_offsets", Kind.GAUGE, "offsets of the last audit by fate", ("fate",))
LOOK_SECONDS = Metric("iot_look_seconds", Kind.GAUGE, "how long the last look took")

# Of a process that follows, while it lives.
RUN_OFFSETS = Metric(
    "iot_run_offsets_total", Kind.COUNTER, "offsets this run has committed, by fate", ("fate",)
)
BATCHES = Metric(
    "iot_micro_batch_rows",
    Kind.HISTOGRAM,
    "offsets that one commit moved on",
    (),
    (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000),
)
BATCH_SECONDS = Metric(
    "iot_micro_batch_seconds", Kind.HISTOGRAM, "seconds between two commits", (), _SECONDS
)
LATENCY = Metric(
    "iot_topic_to_row_seconds",
    Kind.HISTOGRAM,
    "from Kafka's timestamp until the row can be read, of up to 20 rows a second",
    (),
    _SECONDS,
)
RETRIES = Metric("iot_retries_total", Kind.COUNTER, "requests that this process sent again")
IN_FLIGHT = Metric(
    "iot_requests_in_flight", Kind.GAUGE, "requests with rows on their way to Cassandra now"
)

OF_THE_PIPELINE = (
    UP, LAG_OFFSETS, LAG_SECONDS, HELD_BACK, CHECKPOINT, LOG_END, LAST_COMMIT, OFFSETS, UNREAD,
    CHECK_LEVEL, CHECKED_AT, DEVICES, DEVICES_SILENT, HEADROOM, LETTERS, REJECTED, AUDITED_AT,
    AUDITED, LOOK_SECONDS,
)  # fmt: skip
OF_A_RUN = (RUN_OFFSETS, BATCHES, BATCH_SECONDS, LATENCY, RETRIES, IN_FLIGHT)
METRICS = (*OF_THE_PIPELINE, *OF_A_RUN)
