"""Keyspace and tables, as `iot setup` makes and looks at them."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from iot_pipeline.core.checks.schema import Migration


class TableStore(Protocol):
    """Keyspace, tables and migrations."""

    @property
    def migrations(self) -> Sequence[Migration]:
        """Those of this version, in order."""

    def owner(self) -> str | None:
        """The topic that the keyspace was set up for; None: it was set up for none."""

    def claim(self, topic: str) -> str:
        """The same, `topic` from now on where there was none."""

    def keyspace_replication(self) -> dict[str, str] | None: ...
    def nodes(self) -> dict[str, int]:
        """By datacenter, up or down."""

    def local_datacenter(self) -> str: ...
    def create_keyspace(self, replicas: Mapping[str, int]) -> None: ...
    def create_migrations_table(self) -> None: ...
    def applied_migrations(self) -> dict[int, tuple[str, str]]: ...
    def lock(self, holder: str) -> None: ...
    def unlock(self, holder: str) -> None: ...
    def apply(self, migration: Migration, holder: str) -> None: ...
    def columns(self, table: str) -> dict[str, tuple[str, str]]: ...
    def add_columns(self, table: str, columns: Mapping[str, str]) -> None:
        """Add regular columns of these types, all of them or none."""

    def dropped_columns(self, table: str) -> set[str]:
        """Columns that it had once: what was written before they were dropped stays hidden."""

    def options(self, table: str) -> dict[str, str]: ...
    def commitlog_modes(self) -> dict[str, str]: ...
