"""Partitions that stand still, remembered beside the ledger: looks find out which, and why.

A run knows it first, and one that follows ends only hours later. Nothing here is asked before
something is read or written.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial

from iot_pipeline.core.ingest.stopped import Stop, still_stopped
from iot_pipeline.errors import PipelineError
from iot_pipeline.stages.ports.ingest import Stops
from iot_pipeline.stages.ports.ledger import LedgerStore, Run
from iot_pipeline.stages.requests import retry_transient


def keep_stops(
    stops: Stops,
    topic: str,
    run: Run,
    found: Mapping[int, tuple[int, int, PipelineError]],
    now: datetime,
    retry_seconds: float,
) -> None:
    """Remember why partitions stop; of those that stood there before, since when they do.

    Args:
        found: by Kafka partition, the epoch, the offset that its checkpoint cannot pass, and why.
    """
    kept = retry_transient(lambda: stops.read_stops(topic), give_up_after_seconds=retry_seconds)
    known = {stop.partition: stop for stop in kept}
    for partition, (epoch, offset, why) in sorted(found.items()):
        stop = Stop(partition, epoch, offset, now, run.run_id, str(why))
        before = known.get(partition)
        if before is not None and before.place == stop.place:
            if before.cause == stop.cause:
                continue
            stop = replace(stop, since=before.since)
        retry_transient(partial(stops.keep_stop, topic, stop), give_up_after_seconds=retry_seconds)


def read_standing(stops: Stops, ledger: LedgerStore, topic: str) -> list[Stop]:
    """The partitions that no run has drained on since one had to leave them."""
    kept = stops.read_stops(topic)
    if not kept:
        return []
    return still_stopped(kept, ledger.read_checkpoints(topic, [s.partition for s in kept]))
