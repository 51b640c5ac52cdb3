"""The migrations of this version, with the columns of the default quantities."""

from iot_pipeline.clients.schema_store import migration_files
from iot_pipeline.core.checks.schema import read_migrations
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.core.rollups.declared_columns import declared_columns

COLUMNS = declared_columns(QUANTITIES)
MIGRATIONS = read_migrations(migration_files(), COLUMNS)
