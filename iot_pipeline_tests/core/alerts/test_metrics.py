"""The list of metrics: by Prometheus' conventions, in the docs, and never by device."""

from pathlib import Path

from iot_pipeline.core.alerts.metrics import (
    BATCHES,
    METRICS,
    OF_A_RUN,
    OF_THE_PIPELINE,
    Histogram,
    Kind,
    Metric,
)

DOCS = Path(__file__).resolve().parents[3] / "docs" / "metrics.md"


def table_for_docs(metrics: tuple[Metric, ...]) -> str:
    lines = ["| metric | kind | labels | |", "|---|---|---|---|"]
    for one in metrics:
        labels = ", ".join(one.labels)
        lines.append(f"| `{one.name}` | {one.kind} | {labels} | {one.meaning} |")
    return "\n".join(lines)


def test_the_docs_have_the_table_of_all_metrics() -> None:
    text = DOCS.read_text()
    for metrics in (OF_THE_PIPELINE, OF_A_RUN):
        table = table_for_docs(metrics)
        assert table in text, f"docs/metrics.md needs:\n{table}"


def test_names_follow_the_conventions_and_no_label_is_a_device() -> None:
    assert len({one.name for one in METRICS}) == len(METRICS)
    for one in METRICS:
        assert one.name.startswith("iot_")
        assert (one.kind is Kind.COUNTER) == one.name.endswith("_total")
        assert not any("device" in label for label in one.labels)
        assert set(one.labels) <= {
            "topic", "partition", "fate", "outcome", "check", "table", "reason", "server",
        }  # fmt: skip
        assert "ms" not in one.name.split("_")
        assert list(one.bounds) == sorted(one.bounds)
        assert bool(one.bounds) == (one.kind is Kind.HISTOGRAM)


def test_a_histogram_counts_what_is_not_above_each_bound() -> None:
    histogram = Histogram(BATCHES)
    for value in (1, 2, 10, 11, 5_000_000):
        histogram.add(value)
    sample = histogram.sample()
    assert sample.counts == (1, 3, 4, 4, 4, 4, 4, 5)
    assert sample.value == 5_000_024
