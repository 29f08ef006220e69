"""The table of metrics is whole, and the counters in memory count."""

from __future__ import annotations

from floodmark.systems.fleet.metrics import TABLE, Counters, Durations, Kind, Metric, NullMetrics


def test_table_explains_every_metric_and_no_other() -> None:
    assert set(TABLE) == set(Metric)


def test_counters_of_several_labels_are_kept_apart_and_added_up() -> None:
    counters = Counters()

    counters.count(Metric.ALERTS, label="info")
    counters.count(Metric.ALERTS, 2, label="warn")

    assert counters.counted(Metric.ALERTS, "info") == 1
    assert counters.counted(Metric.ALERTS) == 3
    assert counters.counted(Metric.HEARTBEATS) == 0


def test_counters_keep_the_last_gauge_and_the_longest_duration() -> None:
    counters = Counters()

    counters.gauge(Metric.PARTITIONS, 3)
    counters.gauge(Metric.PARTITIONS, 2)
    counters.duration(Metric.REBALANCE_S, 0.5, "emergency")
    counters.duration(Metric.REBALANCE_S, 0.25, "emergency")

    assert counters.gauges[Metric.PARTITIONS, ""] == 2
    assert counters.durations[Metric.REBALANCE_S, "emergency"] == Durations(2, 0.75, 0.5)


def test_null_metrics_take_everything() -> None:
    nobody = NullMetrics()

    for metric, meaning in TABLE.items():
        match meaning.kind:
            case Kind.COUNT:
                nobody.count(metric)
            case Kind.GAUGE:
                nobody.gauge(metric, 1.0)
            case Kind.DURATION_S:
                nobody.duration(metric, 1.0)
