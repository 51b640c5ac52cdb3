"""What a fleet costs: cores, lanes and disk, from what a row was measured to cost.

A row costs the client and Cassandra a part of its own and a share of what its Cassandra partition
costs in each micro-batch, so what counts is how many rows of one device come together. The numbers
are of two cores of this project's measuring machine (docs/scaling.md has them beside what they
were fitted to); a cost model tells tens of percent, not single ones.
"""

from dataclasses import dataclass

# µs of CPU: of a row, and of its Cassandra partition in one micro-batch.
CLIENT_ROW_US, CLIENT_PARTITION_US = 2.6, 66.0
CASSANDRA_ROW_US, CASSANDRA_PARTITION_US = 7.3, 147.0
# Serving it to the client; not taking it from producers, nor copying it to other brokers.
KAFKA_ROW_US = 0.5
# Bytes on Cassandra's disk, compressed: of a row of two quantities, and of a device's day.
ROW_BYTES, DEVICE_DAY_BYTES = 18.0, 96.0
# More rows than these of one device in a micro-batch there never are, and more rows in all do not
# fit the memory budget of a lane as it is shipped.
MOST_ROWS_TOGETHER = 100.0
MICRO_BATCH_ROWS = 800_000.0
# A core is full before it is: following, its tail grows from here on.
FULL = 0.6
# Cassandra rewrites what it compacts before it deletes what it was made of.
COMPACTION_ROOM = 2.0
_DAY_SECONDS = 86_400.0
_HOUR_SECONDS = 3600.0


def client_us(rows_together: float) -> float:
    """µs of CPU that a row costs the client."""
    return CLIENT_ROW_US + CLIENT_PARTITION_US / rows_together


def cassandra_us(rows_together: float) -> float:
    """µs of CPU that a row costs Cassandra, on each replica."""
    return CASSANDRA_ROW_US + CASSANDRA_PARTITION_US / rows_together


@dataclass(frozen=True, slots=True)
class Fleet:
    """What sends, and how it is kept.

    Args:
        devices: how many.
        interval_seconds: from one reading of a device to its next.
        every_seconds: from one run to the next; 0: runs that follow.
        replication: replicas of a row.
        keep_days: how long rows are kept.
    """

    devices: int
    interval_seconds: float
    every_seconds: float = 0.0
    replication: int = 3
    keep_days: float = 365.0

    @property
    def rows_per_second(self) -> float:
        return self.devices / self.interval_seconds

    @property
    def rows_a_day_each(self) -> float:
        return _DAY_SECONDS / self.interval_seconds


@dataclass(frozen=True, slots=True)
class Cost:
    """Cores are those that are busy, of a whole cluster; bytes are on all replicas together."""

    rows_together: float
    client_cores: float
    kafka_cores: float
    cassandra_cores: float
    lanes: int
    bytes_kept: float
    disk_bytes: float
    catch_up_seconds: float
    first_full: str


def cost_of(fleet: Fleet) -> Cost:
    """What the fleet costs when nothing lags, and how soon an hour's outage is made up for.

    `catch_up_seconds` is with the cores that were at FULL until then, all busy.
    `first_full` is empty where nothing comes near a full core.
    """
    rate = fleet.rows_per_second
    lanes = 1
    while True:
        together = _together(fleet, fleet.every_seconds, lanes)
        client = rate * client_us(together) / 1e6
        # Cheaper with more lanes: each has fewer devices, and so more rows of each together.
        if client <= lanes * FULL:
            break
        lanes += 1
    cassandra = rate * cassandra_us(together) * fleet.replication / 1e6
    row_bytes = ROW_BYTES + DEVICE_DAY_BYTES / max(fleet.rows_a_day_each, 1.0)
    kept = rate * _DAY_SECONDS * fleet.keep_days * row_bytes * fleet.replication
    return Cost(
        together,
        client,
        rate * KAFKA_ROW_US / 1e6,
        cassandra,
        lanes,
        kept,
        kept * COMPACTION_ROOM,
        _catch_up_seconds(fleet, lanes, cassandra / FULL),
        _first_full(client / lanes, cassandra),
    )


def _together(fleet: Fleet, seconds: float, lanes: int) -> float:
    """Rows of one device in a micro-batch, when those of so many seconds wait."""
    most = min(MOST_ROWS_TOGETHER, MICRO_BATCH_ROWS * lanes / fleet.devices)
    return max(min(seconds / fleet.interval_seconds, most), 1.0)


def _first_full(lane_cores: float, cassandra_cores: float) -> str:
    if max(lane_cores, cassandra_cores) < FULL:
        return ""
    return "Cassandra" if cassandra_cores > lane_cores else "the core of a lane"


def _catch_up_seconds(fleet: Fleet, lanes: int, cassandra_cores: float) -> float:
    """A backlog has many rows of each device, so that a row is cheaper than while following."""
    rate = fleet.rows_per_second
    together = _together(fleet, max(_HOUR_SECONDS, fleet.every_seconds), lanes)
    most = min(
        lanes * 1e6 / client_us(together),
        cassandra_cores * 1e6 / (cassandra_us(together) * fleet.replication),
    )
    return rate * _HOUR_SECONDS / (most - rate)
