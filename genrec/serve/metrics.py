"""The service's metrics for Prometheus; they name no user and no item."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The service's counters, in their own registry, so that two applications in one process stay separate."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Histogram(
            "genrec_request_seconds", "Whole requests.", ("route", "status"), registry=self.registry, buckets=SECONDS
        )
        self.parts = Histogram(
            "genrec_part_seconds",
            "Parts of requests: history (the store), queue (waiting), model (computing), events (writing).",
            ("part",),
            registry=self.registry,
            buckets=SECONDS,
        )
        self.batches = Histogram(
            "genrec_batch_users", "Users that were computed together.", registry=self.registry, buckets=SIZES
        )
        self.waiting = Gauge("genrec_queue_requests", "Requests that wait for the model.", registry=self.registry)
        self.refused = Counter("genrec_refused", "Requests refused.", ("why",), registry=self.registry)
        self.cache = Counter("genrec_cache", "Answers asked of the cache.", ("found",), registry=self.registry)
        self.events = Counter("genrec_events", "Events that were new.", registry=self.registry)
        self.items = Gauge("genrec_items", "Items of the catalogue now.", registry=self.registry)
        self.takeovers = Counter("genrec_runs_taken_over", "Runs loaded beside.", ("result",), registry=self.registry)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)
