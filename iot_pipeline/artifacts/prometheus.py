"""Metrics as Prometheus reads them: as text, and served over HTTP until the process ends."""

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest, make_wsgi_app
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector

from iot_pipeline.core.alerts.metrics import Kind, Metric, Sample
from iot_pipeline.errors import ConfigurationError

_log = logging.getLogger(__name__)
Samples = Callable[[], Iterable[Sample]]


class _Collector(Collector):
    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def collect(self) -> Iterator[Any]:
        by_metric: defaultdict[Metric, list[Sample]] = defaultdict(list)
        for sample in self._samples():
            by_metric[sample.metric].append(sample)
        for metric, samples in by_metric.items():
            yield _family(metric, samples)


def _family(metric: Metric, samples: Iterable[Sample]) -> Any:
    labels = list(metric.labels)
    if metric.kind is Kind.HISTOGRAM:
        histogram = HistogramMetricFamily(metric.name, metric.meaning, labels=labels)
        for sample in samples:
            bounds = [*(f"{bound:g}" for bound in metric.bounds), "+Inf"]
            counts = list(zip(bounds, sample.counts, strict=True))
            histogram.add_metric(_values(metric, sample), counts, sample.value)
        return histogram
    made = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
    family = made(metric.name.removesuffix("_total"), metric.meaning, labels=labels)
    for sample in samples:
        family.add_metric(_values(metric, sample), sample.value)
    return family


def _values(metric: Metric, sample: Sample) -> list[str]:
    return [sample.labels[name] for name in metric.labels]


def _registry(samples: Samples, *, is_of_process: bool) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(_Collector(samples))
    if is_of_process:
        ProcessCollector(registry=registry)  # CPU, memory, file descriptors
    return registry


def as_text(samples: Iterable[Sample]) -> str:
    """The text that Prometheus would scrape."""
    found = list(samples)
    return generate_latest(_registry(lambda: found, is_of_process=False)).decode()


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *_: object) -> None:  # noqa: A002  # the base class's name
        """A scrape every few seconds is no news."""


class _Server(WSGIServer):
    # A predecessor's connections in TIME_WAIT do not keep the port.
    allow_reuse_address = True


@contextmanager
def served(port: int, address: str, samples: Samples, *, waits: bool = False) -> Iterator[int]:
    """Serve `/metrics` from a thread of its own; yields the port, a free one for 0.

    With `waits` a port that is in use is tried again every second, in the thread: the process
    before may hold it a moment longer, and no work waits for metrics.

    Raises:
        ConfigurationError: the port is in use, or the address is none of this machine.
    """
    app = make_wsgi_app(_registry(samples, is_of_process=True))
    is_over = threading.Event()
    bound: list[_Server] = []

    def bind() -> _Server:
        try:
            bound.append(make_server(address, port, app, _Server, _Quiet))
        except OSError as exc:
            why = (exc.strerror or str(exc)).lower()
            raise ConfigurationError(f"serving metrics at {address}:{port}: {why}") from None
        return bound[0]

    def serve() -> None:
        while not bound and not is_over.is_set():
            try:
                bind()
            except ConfigurationError as exc:
                if not said:
                    said.append(str(exc))
                    _log.warning("%s; tried again every second", exc)
                is_over.wait(1.0)
        if bound:
            bound[0].serve_forever(0.1)

    said: list[str] = []
    if not waits:
        bind()
    thread = threading.Thread(target=serve, name="metrics", daemon=True)
    thread.start()
    try:
        yield bound[0].server_port if bound else port
    finally:
        is_over.set()
        # A thread that has bound begins to serve, however late: it is asked until it has ended.
        while thread.is_alive():
            if bound:
                bound[0].shutdown()
            thread.join(0.05)
        if bound:
            bound[0].server_close()
