"""Metrics: a storage's studies in Prometheus's format, read from the database at each scrape.

Everything is a number that the database knows, so it does not matter which process is asked, and
a worker's training never waits for a scrape.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from orchestrator.errors import OrchError, StorageUnavailable, UsageError
from orchestrator.storage.database import Database, Row

_STATES = ("complete", "pruned", "failed", "running", "waiting")
_LATENCY_BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)


class StudyMetrics(Collector):
    """What one look at the storage says.

    Args:
        database: the storage; the collector is the only one to use this connection.
        study: one study alone; None: all.
    """

    def __init__(self, database: Database, study: str | None, registry: CollectorRegistry) -> None:
        self._database = database
        self._study = study
        self._away = False
        registry.register(self)  # before the two below: a scrape counts itself
        self._latency = Histogram(
            "orch_storage_latency_seconds", "How long the storage took to answer a scrape.",
            buckets=_LATENCY_BUCKETS, registry=registry,
        )  # fmt: skip
        self._outages = Counter(
            "orch_storage_outages", "How often the storage went out of reach.", registry=registry
        )

    def describe(self) -> list[Metric]:
        """Nothing beforehand: registering asks no database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The metrics of this moment; without the storage, that it is away."""
        rows = self._look()
        yield GaugeMetricFamily(
            "orch_storage_up", "1: the storage answers; 0: it is out of reach.",
            value=float(rows is not None),
        )  # fmt: skip
        yield from _of_studies(rows or [])

    def _look(self) -> list[Row] | None:
        started = time.perf_counter()
        try:
            rows = self._database.rows("metrics_of_studies", name=self._study)
        except StorageUnavailable:
            if not self._away:
                self._outages.inc()
            self._away = True
            return None
        self._latency.observe(time.perf_counter() - started)
        self._away = False
        return rows


def _of_studies(rows: list[Row]) -> Iterator[Metric]:
    trials = GaugeMetricFamily("orch_trials", "Trials by state.", labels=["study", "state"])
    for row in rows:
        for state in _STATES:
            trials.add_metric([row["name"], state], row[state])
    yield trials
    for name, text, column in (
        ("orch_budget_trials", "Trials that the study ends with.", "budget"),
        ("orch_live_workers", "Worker processes with a sign of life.", "workers"),
        ("orch_epoch_seconds", "Mean seconds of an epoch, over the ended trials.", "epoch_seconds"),
        ("orch_best_value", "Best value of the first metric.", "best"),
    ):
        gauge = GaugeMetricFamily(name, text, labels=["study"])
        for row in rows:
            if row[column] is not None:
                gauge.add_metric([row["name"]], row[column])
        yield gauge
    for name, text, column in (
        ("orch_epochs", "Values (epochs) that trials have reported.", "epochs"),
        ("orch_retries", "Attempts that failed or were lost, and were tried again.", "retries"),
    ):
        counter = CounterMetricFamily(name, text, labels=["study"])
        for row in rows:
            counter.add_metric([row["name"]], row[column])
        yield counter


@contextmanager
def metrics_served(url: str, where: str | None, study: str | None = None) -> Iterator[str | None]:
    """Serve the metrics while the block runs.

    Args:
        url: the storage's.
        where: ``PORT`` or ``HOST:PORT``; 0 takes any free port; None: serve nothing.
        study: one study alone; None: all.

    Yields:
        The metrics' address; None where nothing is served.

    Raises:
        UsageError: ``where`` is no address.
        OrchError: the port is taken.
    """
    if where is None:
        yield None
        return
    host, port = parse_address(where)
    registry = CollectorRegistry()
    database = Database(url)
    StudyMetrics(database, study, registry)
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise OrchError(
            f"cannot listen on {host}:{port}: {error.strerror}; name another with --metrics-port"
        ) from None
    try:
        yield f"http://{host}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        database.close()


def parse_address(text: str) -> tuple[str, int]:
    """``9464`` is on this machine alone; ``0.0.0.0:9464`` wherever it is reached.

    Raises:
        UsageError: it is neither.
    """
    host, _, port = text.rpartition(":")
    if not port.isdigit() or int(port) > 65535:
        raise UsageError(f"--metrics-port {text}: write PORT or HOST:PORT, as 9464")
    return host.strip("[]") or "127.0.0.1", int(port)
