"""Counters of everything that the server does, for Prometheus and for the status page."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from .failures import RecentFailures

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
_BATCH_ITEMS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

Figures = Callable[[], Mapping[str, float]]
"""Numbers of the moment by name, such as `queue_items`."""


class _FiguresCollector(Collector):
    """The server's numbers as gauges, and those named "..._total" as counters, asked for when they
    are read.
    """

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        for name, value in self._figures().items():
            family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            text = f"{name.removesuffix('_total').replace('_', ' ')} of the server".capitalize()
            yield family(f"hvae_{name}", text, value=value)


class Metrics:
    """All counters of one server. Methods are safe in any thread and take microseconds.

    `method` is a method of CodecService, `code` the name of a gRPC status code, `model` a model's
    name with its quality level ("cifar10-q3") or without ("photo", or where a search chose the
    quality level): never text of a caller.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._began = time.time()
        self.failures = RecentFailures()
        ProcessCollector(registry=self.registry)
        self._requests = self._counter(
            "requests",
            "Requests answered: unary calls, and messages of streams",
            ("method", "code"),
        )
        self._seconds = self._histogram(
            "request_duration_seconds",
            "Seconds from a request's arrival to its answer",
            ("method",),
            _SECONDS,
        )
        self.streams = self._counter("streams", "Streams that ended", ("method", "code"))
        in_flight = Gauge(
            "hvae_calls_in_flight", "Calls being answered", ("method",), registry=self.registry
        )
        self._in_flight = cache(in_flight.labels)
        self.calls_in_flight = 0
        self.items = self._counter("items", "Items answered", ("method", "code"))
        self.received = self._counter("received_bytes", "Bytes of requests", ("method",))
        self.sent = self._counter("sent_bytes", "Bytes of answers", ("method",))
        self._batches = self._histogram(
            "batch_items", "Items of a batch", ("model", "kind"), _BATCH_ITEMS
        )
        self._batch_seconds = self._histogram(
            "batch_duration_seconds", "Seconds that a batch took", ("model", "kind"), _SECONDS
        )
        self._image_bytes = self._counter(
            "image_bytes", "Bytes of samples of images encoded or decoded", ("model", "kind")
        )
        self._encoded_bytes = self._counter(
            "encoded_bytes", "Bytes of their `.hvae` files", ("model", "kind")
        )
        self.log_lines_dropped = Counter(
            "hvae_log_lines_dropped",
            "Log lines given up because standard error did not take them",
            registry=self.registry,
        )

    def _counter(self, name: str, text: str, labels: Iterable[str]) -> Callable[..., Counter]:
        """A counter's value for labels. Those are few, and prometheus_client takes its time to find
        them."""
        return cache(Counter(f"hvae_{name}", text, labels, registry=self.registry).labels)

    def _histogram(
        self, name: str, text: str, labels: Iterable[str], buckets: tuple[float, ...]
    ) -> Callable[..., Histogram]:
        made = Histogram(f"hvae_{name}", text, labels, registry=self.registry, buckets=buckets)
        return cache(made.labels)

    def call_began(self, method: str) -> None:
        """A call is being answered."""
        self.calls_in_flight += 1
        self._in_flight(method).inc()

    def call_ended(self, method: str) -> None:
        """A call has ended."""
        self.calls_in_flight -= 1
        self._in_flight(method).dec()

    def request(self, method: str, code: str, seconds: float) -> None:
        """A unary call or a message of a stream was answered."""
        self._requests(method, code).inc()
        self._seconds(method).observe(seconds)

    def batch(self, model: str, kind: str, items: int, seconds: float) -> None:
        """A batch went through a model; `kind` is "encode", "decode", "features" and so on."""
        self._batches(model, kind).observe(items)
        self._batch_seconds(model, kind).observe(seconds)

    def coded(self, model: str, kind: str, image_bytes: int, encoded_bytes: int) -> None:
        """Images with `image_bytes` of samples went to or from files; `kind` as of `batch`."""
        self._image_bytes(model, kind).inc(image_bytes)
        self._encoded_bytes(model, kind).inc(encoded_bytes)

    def show(self, figures: Figures) -> None:
        """Show these numbers as `hvae_NAME`."""
        self.registry.register(_FiguresCollector(figures))

    def text(self) -> bytes:
        """Everything, in the format of Prometheus."""
        return generate_latest(self.registry)

    def live(self) -> dict[str, Any]:
        """The numbers of the status page: those without labels by name, and of the others a list
        of their labels and value. Counters and buckets are of all time; the page subtracts.
        `failures` has the last ones."""
        plain: dict[str, float] = {}
        labelled: dict[str, list[dict[str, Any]]] = {}
        for family in self.registry.collect():
            for sample in family.samples:
                if sample.name.endswith("_created"):
                    continue
                if sample.labels:
                    entry = {**sample.labels, "value": sample.value}
                    labelled.setdefault(sample.name, []).append(entry)
                else:
                    plain[sample.name] = sample.value
        more = {"uptime_seconds": time.time() - self._began}
        return {**more, **plain, **labelled, "failures": self.failures.newest_first()}
