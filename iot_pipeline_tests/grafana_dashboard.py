"""The dashboard of deploy/grafana, made by Grafana's own builders.

`make dashboard` writes it anew. The builders are a package for development alone: who imports the
dashboard into Grafana needs none.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from grafana_foundation_sdk.builders.common import ReduceDataOptions, VizLegendOptions
from grafana_foundation_sdk.builders.dashboard import Dashboard, DatasourceVariable, Row
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.timeseries import Panel as Timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement
from grafana_foundation_sdk.models.dashboard import DataSourceRef

PATH = Path(__file__).resolve().parents[1] / "deploy" / "grafana" / "iot_pipeline.json"
# What Grafana puts in its place depends on the zoom; a test puts a minute.
INTERVAL = "$__rate_interval"


@dataclass(frozen=True, slots=True)
class Shown:
    """One panel: its title, unit as Grafana calls it, and each query with its legend."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    is_number: bool = False


def _quantiles(metric: str) -> tuple[tuple[str, str], ...]:
    rate = f"sum by (le) (rate({metric}_bucket[{INTERVAL}]))"
    return tuple((f"histogram_quantile({q}, {rate})", f"p{q * 100:g}") for q in (0.5, 0.95, 0.99))


PANELS: dict[str, tuple[Shown, ...]] = {
    "Now": (
        Shown("Servers", "short", (("min by (server) (iot_up)", "{{server}}"),), True),
        Shown("Lag", "s", (("max(iot_lag_seconds)", "oldest record"),), True),
        Shown("Red checks", "short", (("count(iot_check_level == 2) or vector(0)", "red"),), True),
        Shown("Silent devices", "short", (("max(iot_devices_silent)", "silent"),), True),
    ),
    "Ingestion": (
        Shown(
            "Offsets a second by fate",
            "short",
            ((f"sum by (fate) (rate(iot_offsets_total[{INTERVAL}]))", "{{fate}}"),),
        ),
        Shown("Lag in seconds", "s", (("max by (partition) (iot_lag_seconds)", "{{partition}}"),)),
        Shown(
            "Lag in offsets", "short", (("sum by (partition) (iot_lag_offsets)", "{{partition}}"),)
        ),
        Shown(
            "Since the last commit",
            "s",
            (("time() - max by (topic) (iot_last_commit_timestamp_seconds)", "{{topic}}"),),
        ),
        Shown("From the topic to a row", "s", _quantiles("iot_topic_to_row_seconds")),
        Shown("Between two commits", "s", _quantiles("iot_micro_batch_seconds")),
        Shown(
            "Offsets a commit",
            "short",
            (
                (
                    f"rate(iot_micro_batch_rows_sum[{INTERVAL}]) / "
                    f"rate(iot_micro_batch_rows_count[{INTERVAL}])",
                    "mean",
                ),
            ),
        ),
        Shown(
            "Retries a second", "short", ((f"sum(rate(iot_retries_total[{INTERVAL}]))", "retries"),)
        ),
    ),
    "Proof": (
        Shown("Checks: 1 warns, 2 is red", "short", (("iot_check_level", "{{check}} {{table}}"),)),
        Shown("Left unread", "short", (("sum by (outcome) (iot_unread_offsets)", "{{outcome}}"),)),
        Shown("Last audit", "short", (("sum by (fate) (iot_audit_offsets)", "{{fate}}"),)),
        Shown("Age of the last audit", "s", (("time() - iot_audit_timestamp_seconds", "age"),)),
        Shown("Headroom to retention", "s", (("min(iot_retention_headroom_seconds)", "headroom"),)),
        Shown(
            "Held back by open transactions",
            "short",
            (("sum by (partition) (iot_held_back_offsets)", "{{partition}}"),),
        ),
    ),
    "Devices and letters": (
        Shown("Devices", "short", (("iot_devices", "known"), ("iot_devices_silent", "silent"))),
        Shown(
            "Dead letters of the last hour, newest 200",
            "short",
            (("sum by (reason) (iot_dead_letters_last_hour)", "{{reason}}"),),
        ),
        Shown("Rejected in the last hour", "short", (("iot_rejected_last_hour", "rejected"),)),
    ),
    "Processes": (
        Shown("CPU", "percentunit", ((f"rate(process_cpu_seconds_total[{INTERVAL}])", "{{job}}"),)),
        Shown("Memory", "bytes", (("process_resident_memory_bytes", "{{job}}"),)),
        Shown("Seconds of a look", "s", (("iot_look_seconds", "look"),)),
    ),
}


def build() -> str:
    """The dashboard as Grafana imports it."""
    source = DataSourceRef(type_val="prometheus", uid="${source}")
    dashboard = (
        Dashboard("iot_pipeline")
        .uid("iot-pipeline")
        .tags(["iot", "kafka", "cassandra"])
        .refresh("30s")
        .time("now-3h", "now")
        .timezone("utc")
        .with_variable(DatasourceVariable("source").label("Prometheus").type("prometheus"))
    )
    for row, panels in PANELS.items():
        dashboard = dashboard.with_row(Row(row))
        for shown in panels:
            panel: Stat | Timeseries
            if shown.is_number:
                reduced = ReduceDataOptions().calcs(["lastNotNull"])
                panel = Stat().reduce_options(reduced).span(6).height(4)
            else:
                legend = (
                    VizLegendOptions()
                    .show_legend(True)
                    .display_mode(LegendDisplayMode.LIST)
                    .placement(LegendPlacement.BOTTOM)
                )
                panel = Timeseries().legend(legend).span(8).height(8)
            panel = panel.title(shown.title).unit(shown.unit).datasource(source)
            for name, (expression, legend_of_query) in zip("ABC", shown.queries, strict=False):
                query = Dataquery().expr(expression).legend_format(legend_of_query).ref_id(name)
                panel = panel.with_target(query.datasource(source))
            dashboard = dashboard.with_panel(panel)
    return json.dumps(dashboard.build(), cls=JSONEncoder, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    PATH.write_text(build(), encoding="utf-8")
    print(PATH)
