"""A manifest as run metadata: numbers, a table of its faults, and where the file is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from iot_pipeline.core.simulator.manifest import FaultTruth, Manifest
from iot_pipeline.local.manifests import manifest_path

_ROWS = 100


def manifest_metadata(manifest: Manifest, data_dir: Path) -> Mapping[str, Any]:
    """What was really sent, for the page of a run."""
    kinds = manifest.count_by_kind()
    end = "%H:%M:%S" if manifest.start_at.date() == manifest.end_at.date() else "%d %b %H:%M:%S"
    metadata: dict[str, Any] = {
        "scenario": manifest.scenario,
        "devices": len(manifest.devices),
        "withheld": manifest.withheld,
        "faults": len(manifest.faults) + manifest.faults_left_out,
        "manifest": dg.MetadataValue.path(manifest_path(data_dir, manifest.manifest_id)),
        "event_times": f"{manifest.start_at:%d %b %Y %H:%M:%S} to {manifest.end_at:{end}} UTC",
    }
    if kinds:
        metadata["faults_by_kind"] = dg.MetadataValue.md(
            "| fault | times | devices | messages or readings withheld |\n|---|---:|---:|---:|\n"
            + "".join(
                f"| {kind} | {times:,} | {devices:,} | {messages:,} |\n"
                for kind, (times, devices, messages) in kinds.items()
            )
        )
        metadata["injected_faults"] = dg.MetadataValue.md(_table(manifest.faults))
    return metadata


def _table(faults: list[FaultTruth]) -> str:
    # The longest first: those are what the checks are about, single readings are not.
    longest = sorted(faults, key=lambda f: (-(f.messages + f.withheld), f.first_at))
    lines = [
        "| fault | device | from (UTC) | to | messages | off by | offsets |",
        "|---|---|---|---|---:|---:|---|",
    ]
    for fault in longest[:_ROWS]:
        count = fault.messages or f"{fault.withheld} withheld"
        what = fault.reason or ("" if fault.amount is None else f"{fault.amount:g} {fault.unit}")
        lines.append(
            f"| {fault.kind} | {fault.device_id} | {fault.first_at:%d %b %H:%M:%S} "
            f"| {fault.last_at:%H:%M:%S} | {count} | {what} | {_offsets(fault)} |"
        )
    if len(faults) > _ROWS:
        lines.append(f"\n{len(faults) - _ROWS:,} more are in the manifest's file.")
    return "\n".join(lines)


def _offsets(fault: FaultTruth) -> str:
    parts = []
    for partition, ranges in sorted(fault.offsets.items()):
        first, last = ranges[0][0], ranges[-1][1]
        parts.append(f"{partition}:{first}" if first == last else f"{partition}:{first}…{last}")
    return ", ".join(parts)
