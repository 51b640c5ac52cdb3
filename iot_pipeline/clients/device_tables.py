"""What there is of one device, in every table but that of the readings."""

from collections.abc import Sequence
from datetime import date

from iot_pipeline.clients.device_states import CassandraDeviceStates
from iot_pipeline.clients.devices_by_day import CassandraDeviceDays
from iot_pipeline.clients.remembered import CassandraMendedRows
from iot_pipeline.clients.rollup_store import CassandraRollupStore


class CassandraDeviceTables:
    """A `DeviceTables`: each table's own client speaks of it."""

    def __init__(
        self,
        rollups: CassandraRollupStore,
        states: CassandraDeviceStates,
        mends: CassandraMendedRows,
        days: CassandraDeviceDays,
    ) -> None:
        self._rollups, self._states, self._mends, self._days = rollups, states, mends, days

    def count_rollups(self, device_id: str, months: Sequence[date]) -> int:
        return self._rollups.count_rollups(device_id, months)

    def count_states(self, device_id: str) -> int:
        return self._states.count_states(device_id)

    def count_mends(self, device_id: str) -> int:
        return self._mends.count_mends(device_id)

    def delete_rollups(self, device_id: str, months: Sequence[date]) -> None:
        self._rollups.delete_rollups(device_id, months)

    def delete_state(self, device_id: str) -> None:
        self._states.delete_state(device_id)

    def delete_mends(self, device_id: str) -> None:
        self._mends.delete_mends(device_id)

    def delete_days(self, device_id: str, days: Sequence[date], until_us: int) -> None:
        self._days.delete_days(device_id, days, until_us)
