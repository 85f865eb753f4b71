"""What Prometheus sees at /api/metrics."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from refapp.ollama import PROVIDER
from refapp.redis_store import Counters, Queue
from refapp.release import VERSION

logger = logging.getLogger(__name__)

#: Seconds; the last ones let an alert on p95 > 30 s see beyond its threshold.
REQUEST_BUCKETS = (0.025, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120)


class Metrics:
    """This process's own metrics, and those it reads from Redis when asked."""

    def __init__(self, queue: Queue, counters: Counters, colour: str | None) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "flowaudit_http_requests", "Requests.", ["method", "endpoint", "status"], registry=self.registry
        )
        self._duration = Histogram(
            "flowaudit_http_request_duration_seconds",
            "Duration of requests.",
            ["endpoint"],
            buckets=REQUEST_BUCKETS,
            registry=self.registry,
        )
        self._health = Gauge(
            "flowaudit_health", "Last health check: 1 healthy, else 0.", ["service"], registry=self.registry
        )
        build = Gauge("flowaudit_build_info", "Release and colour.", ["version", "colour"], registry=self.registry)
        build.labels(VERSION, colour or "").set(1)
        self.registry.register(_Shared(queue, counters))

    def observe_request(self, method: str, endpoint: str, status: int, duration_s: float) -> None:
        self._requests.labels(method, endpoint, str(status)).inc()
        self._duration.labels(endpoint).observe(duration_s)

    def observe_health(self, report: Mapping[str, Any]) -> None:
        for name, service in {"all": report, **report["services"]}.items():
            self._health.labels(name).set(service["status"] == "healthy")


class _Shared(Collector):
    """The queue, and what workers counted: the same numbers from every backend process."""

    def __init__(self, queue: Queue, counters: Counters) -> None:
        self._queue = queue
        self._counters = counters

    def collect(self) -> Iterator[Metric]:
        try:
            size, active, values = self._queue.size(), self._queue.active(), self._counters.read()
        except RedisError as error:
            logger.warning("no shared metrics: %s", type(error).__name__)
            return
        yield GaugeMetricFamily("flowaudit_queue_size", "Documents waiting for a worker.", size)
        yield GaugeMetricFamily("flowaudit_active_tasks", "Documents in the hands of a worker.", active)

        processed = CounterMetricFamily("flowaudit_documents_processed", "Documents finished.", labels=["status"])
        for status in ("success", "failed"):
            processed.add_metric([status], values.get(("documents", status), 0))
        yield processed

        calls = CounterMetricFamily("flowaudit_llm_calls", "Calls of the model.", labels=["provider", "model"])
        for name, *labels in values:
            if name == "llm_calls":
                calls.add_metric(labels, values[(name, *labels)])
        yield calls

        bounds = [*map(str, Counters.LLM_BUCKETS), "+Inf"]
        counts = accumulate(values.get(("llm_bucket", PROVIDER, bound), 0) for bound in bounds)
        duration = HistogramMetricFamily("flowaudit_llm_duration_seconds", "Duration of calls.", labels=["provider"])
        duration.add_metric([PROVIDER], list(zip(bounds, counts, strict=True)), values.get(("llm_sum", PROVIDER), 0))
        yield duration
