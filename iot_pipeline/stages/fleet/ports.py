"""What a look at the fleet asks: kept states, rows, deletions."""

from dataclasses import dataclass

from iot_pipeline.stages.ports import DeletionLog, DeviceDays, DeviceStateStore, SensorData


@dataclass(frozen=True, slots=True)
class FleetPorts:
    """Everything a look at the fleet reads, and the one table it writes."""

    states: DeviceStateStore
    rows: SensorData
    days: DeviceDays
    deletions: DeletionLog
