"""Declarations of readings, each kept once: what the fingerprints of the ledgers mean."""

from datetime import UTC, datetime

from iot_pipeline.clients.cassandra import CassandraClient
from iot_pipeline.clients.cassandra_answers import aware
from iot_pipeline.clients.table import Table
from iot_pipeline.core.reading.declaration import Declaration
from iot_pipeline.core.reading.kept_declaration import KeptDeclaration

_TABLE = "{ks}.readings_declared"
_IS_KEPT = f"SELECT fingerprint FROM {_TABLE} WHERE fingerprint = ?"
# All of them: a team changes its declaration a few times a year.
_ALL = f"SELECT fingerprint, declaration, schema_file, schema_message, first_seen_at FROM {_TABLE}"


class CassandraDeclarations(Table):
    """A `Declarations`."""

    def __init__(self, client: CassandraClient) -> None:
        super().__init__(client)
        self._kept: set[str] = set()

    def keep_declaration(self, declaration: Declaration) -> None:
        kept = KeptDeclaration.of(declaration)
        name = kept.fingerprint
        if name in self._kept:
            return
        # Asked first: a conditional write for each run would cost it ten milliseconds.
        if not self._run(_IS_KEPT, (name,), doing=f"looking for the declaration {name}"):
            row = {
                "fingerprint": name,
                "declaration": kept.text,
                "schema_file": kept.schema,
                "schema_message": kept.message,
                "first_seen_at": datetime.now(UTC),
            }
            self._insert(_TABLE, row, doing=f"keeping the declaration {name}", more="IF NOT EXISTS")
        self._kept.add(name)

    def read_declarations(self) -> list[KeptDeclaration]:
        found = [
            KeptDeclaration(
                row.fingerprint,
                row.declaration or "",
                row.schema_file,
                row.schema_message or "",
                aware(row.first_seen_at),
            )
            for row in self._run(_ALL, doing="reading the declarations of readings")
        ]
        return sorted(found, key=lambda kept: kept.first_seen_at or _NEVER, reverse=True)


_NEVER = datetime.min.replace(tzinfo=UTC)
