"""What `iot drain --follow` shows while it stays, and how it is asked to end."""

import signal
import threading
import time
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from iot_pipeline.cli.progress import ProgressLine
from iot_pipeline.connections import Connections, drain_config
from iot_pipeline.core.latency import Latencies
from iot_pipeline.stages.following import Follow
from iot_pipeline.stages.ingest import DrainProgress, follow
from iot_pipeline.stages.latency import LatencyProbe
from iot_pipeline.stages.planning import Plan
from iot_pipeline.stages.ports import Run


def follow_until_asked(
    connections: Connections,
    plan: Plan,
    run: Run,
    partitions: Collection[int] | None,
    seconds: float | None,
    progress: DrainProgress,
    probe: LatencyProbe,
    latency: Latencies,
) -> None:
    """Follow for so long, or until the first Ctrl-C or SIGTERM.

    Args:
        connections, plan, run, partitions, progress: the drain's.
        seconds: None for the setting's.
        probe: stands in the place of the store.
        latency: gets what was measured and shown.
    """
    settings = connections.settings
    asked_to_stop = threading.Event()
    how = Follow(seconds or settings.follow_seconds, should_stop=asked_to_stop.is_set)
    # The first asks politely; the second is Python's own and ends it wherever it is.
    before = {
        number: signal.signal(number, lambda *_: _ask(asked_to_stop, before))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    line = _FollowLine(probe, latency)
    try:
        follow(
            plan,
            replace(connections.ports, store=probe),
            run,
            drain_config(settings),
            how,
            partitions=partitions,
            progress=progress,
            on_progress=line.show,
        )
    finally:
        line.stop()
        _restore(before)


def _ask(asked_to_stop: threading.Event, before: dict[signal.Signals, Any]) -> None:
    asked_to_stop.set()
    _restore(before)


def _restore(before: dict[signal.Signals, Any]) -> None:
    for number, handler in before.items():
        signal.signal(number, handler)


class _FollowLine:
    """Rates and latencies of the last seconds, one after the other."""

    def __init__(self, probe: LatencyProbe, latency: Latencies) -> None:
        self._probe, self._latency = probe, latency
        self._line = ProgressLine("following, rows stored")
        self._shown_at = time.monotonic()
        self._stored = 0

    def show(self, progress: DrainProgress) -> None:
        now = time.monotonic()
        seconds = now - self._shown_at
        if seconds < self._line.seconds_between:
            return
        recent, stored = self._probe.take(), progress.total.stored
        self._latency.merge(recent)
        rate = (stored - self._stored) / seconds
        self._line.show(stored, more=f"{rate:,.0f} a second, {recent}")
        self._shown_at, self._stored = now, stored

    def stop(self) -> None:
        self._line.stop()
