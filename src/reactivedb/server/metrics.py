"""How does a running database look to Prometheus?

Everything is read when it is asked for, from counts that the parts keep (`app/meters` and others): the hot
path knows nothing of Prometheus, whose module is imported by the first scrape. Each database has a registry
of its own, so that several may live in one process. Names carry their unit; labels have few values, for
each is a series that somebody has to store. `docs/http_api.md` lists them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from ..app import Histogram, Resource, Runtime
from ..errors import StorageError

_PREFIX = "reactivedb_"


class Metrics:
    """The figures of one running database as text."""

    def __init__(self, runtime: Runtime) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_RuntimeCollector(runtime))
        ProcessCollector(registry=self._registry)

    def text(self, accept: str) -> tuple[bytes, str]:
        """The exposition and its content type, in the form that the reader asks for."""
        try:
            encoder, content_type = choose_encoder(accept)
        except (TypeError, ValueError):
            # It compares versions without looking whether they are any.
            encoder, content_type = choose_encoder("")
        return encoder(self._registry), content_type


class _RuntimeCollector(Collector):
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def collect(self) -> Iterable[Metric]:
        yield from self._functions()
        yield from self._loop()
        yield from self._commits()
        yield from self._live_queries()
        yield from self._sockets()
        yield from self._jobs()
        yield from self._stored()

    def _functions(self) -> Iterator[Metric]:
        meters = self._runtime.report.meters
        runs = CounterMetricFamily(
            f"{_PREFIX}function_runs",
            "Runs of functions and HTTP actions.",
            labels=["kind", "path", "outcome"],
        )
        seconds = CounterMetricFamily(
            f"{_PREFIX}function_run_seconds", "Time that these runs took.", labels=["kind", "path"]
        )
        for (kind, path), meter in list(meters.functions.items()):
            runs.add_metric([kind, path, "success"], meter.succeeded)
            runs.add_metric([kind, path, "error"], meter.failed)
            seconds.add_metric([kind, path], meter.seconds)
        yield runs
        yield seconds
        yield _histogram("run_duration_seconds", "How long runs took.", meters.runs)
        actions = self._runtime.actions
        yield _gauge("actions_running", "Actions that have not ended.", actions.running)
        yield _gauge("action_threads", "Threads of actions that have not ended.", actions.threads.running)
        yield _counter(
            "actions_abandoned",
            "Actions that did not end when they were cancelled, left behind in their threads.",
            actions.threads.abandoned_count,
        )

    def _loop(self) -> Iterator[Metric]:
        meters = self._runtime.report.meters
        yield _counter("loop_blocks", "How often something blocked the event loop.", meters.loop_blocks)
        yield _counter(
            "loop_blocked_seconds", "For how long the event loop was blocked.", meters.loop_blocked_s
        )

    def _commits(self) -> Iterator[Metric]:
        committer = self._runtime.engine.committer
        yield _counter("commits", "Commits since the start.", committer.commit_count)
        yield _histogram(
            "sync_duration_seconds",
            "How long a group of commits took into the file and onto the disk.",
            {"": self._runtime.report.meters.syncs},
        )

    def _live_queries(self) -> Iterator[Metric]:
        cache = self._runtime.cache
        yield _gauge("live_queries", "Different queries whose results are kept up to date.", len(cache))
        yield _counter("live_query_reruns", "Runs of live queries after their first.", cache.rerun_count)
        yield _counter(
            "live_query_results_unchanged",
            "Runs of live queries whose result was the one that everybody had.",
            cache.unchanged_count,
        )
        yield _gauge("idle_result_bytes", "Results kept for nobody.", cache.idle_size_bytes)
        yield _gauge(
            "document_cache_bytes", "Decoded documents in memory.", self._runtime.engine.cache.size_bytes
        )

    def _sockets(self) -> Iterator[Metric]:
        meters, held = self._runtime.report.meters, self._runtime.admission.total.held
        yield _gauge("sockets", "Open sockets.", held[Resource.SOCKETS])
        yield _gauge("followed_queries", "Queries that sockets follow.", held[Resource.QUERIES])
        yield _gauge(
            "requests_under_way", "Calls and HTTP requests without an answer yet.", held[Resource.REQUESTS]
        )
        yield _gauge("held_bytes", "Bytes held for requests and slow readers.", held[Resource.BYTES])
        yield _counter("sockets_opened", "Sockets since the start.", meters.sockets_opened)
        yield _by_label("sockets_closed", "Sockets that ended.", "reason", meters.sockets_closed)
        yield _counter("socket_received_bytes", "Bytes from sockets.", meters.socket_received_bytes)
        yield _counter("socket_sent_bytes", "Bytes to sockets.", meters.socket_sent_bytes)
        yield _by_label("http_responses", "Answers over HTTP.", "status", meters.responses)
        yield _by_label(
            "refusals", "What was refused for want of room.", "limit", self._runtime.admission.refusals
        )

    def _jobs(self) -> Iterator[Metric]:
        jobs = self._runtime.jobs
        yield _gauge("jobs_waiting", "Jobs whose time has not come.", jobs.waiting_count)
        yield _gauge("jobs_running", "Actions that run as jobs.", jobs.running_count)
        yield _by_label("jobs_ended", "Jobs that ended.", "state", jobs.ended)

    def _stored(self) -> Iterator[Metric]:
        engine = self._runtime.engine
        yield _gauge(
            "schema_work",
            "1 while indexes are built or documents migrated.",
            not self._runtime.schema_work.is_idle,
        )
        try:
            past = engine.retention.report(self._runtime.latest_ts)
            path = engine.storage.path
        except StorageError:
            return  # It is closed; the rest can be told all the same.
        yield _gauge("log_bytes", "The past that is kept.", past.size_bytes)
        yield _gauge("log_writes", "Writes in the past that is kept.", past.write_count)
        yield _gauge("log_oldest_timestamp_seconds", "How far back the past reaches.", past.oldest_ts / 1e9)
        if path is not None:
            yield _gauge("database_bytes", "The database file.", _size_of(path))
            yield _gauge("wal_bytes", "Its write-ahead log.", _size_of(path.with_name(f"{path.name}-wal")))


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{_PREFIX}{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"{_PREFIX}{name}", text, value=value)


def _by_label(name: str, text: str, label: str, counts: Mapping[Any, int]) -> Metric:
    family = CounterMetricFamily(f"{_PREFIX}{name}", text, labels=[label])
    for value, count in sorted(counts.items()):
        family.add_metric([str(value)], count)
    return family


def _histogram(name: str, text: str, by_kind: Mapping[str, Histogram]) -> Metric:
    """One histogram for each kind; the kind of an only one is empty."""
    family = HistogramMetricFamily(f"{_PREFIX}{name}", text, labels=["kind"] if "" not in by_kind else [])
    for kind, histogram in by_kind.items():
        sums = list(accumulate(histogram.counts))
        bounds = [*map(str, histogram.bounds_s), "+Inf"]
        buckets = list(zip(bounds, map(float, sums), strict=True))
        family.add_metric([kind] if kind else [], buckets, histogram.sum_s)
    return family
