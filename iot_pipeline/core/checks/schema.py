"""What tables must look like, and what it means when they do not."""

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from iot_pipeline.errors import SchemaMismatchError

# What a table is made with, where its `.cql` file says nothing else.
_OPTIONS = {"default_time_to_live": "0", "gc_grace_seconds": "864000"}
_MIGRATION_NAME = re.compile(r"(\d{3})_[a-z0-9_]+\.cql")

# A `.cql` file names its tables `${keyspace}.name`; each column is a line of its own.
_TABLE = re.compile(
    r"CREATE TABLE (?:IF NOT EXISTS )?\$\{keyspace\}\.(?P<name>\w+) \((?P<columns>.*?)\)"
    r"(?: WITH (?P<options>.*))?"
)
_PLACE = re.compile(r"\$\{(quantities|statistics)\}")
_COMPACTION = re.compile(r"compaction = \{'class': '(\w+)'")
_ADDED = re.compile(r"ALTER TABLE \$\{keyspace\}\.(?P<name>\w+) ADD (?P<column>.*)")
_PRIMARY_KEY = re.compile(
    r"PRIMARY KEY \((?:\((?P<several>[^)]*)\)|(?P<one>\w+))(?P<clustering>.*)\)"
)

_COLUMNS_SAID = 4

# column -> (type, kind); kinds as system_schema.columns names them.
Columns = Mapping[str, tuple[str, str]]
# Name of a place -> column -> its CQL type, as `rollups.declared_columns` makes it.
DeclaredColumns = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not as expected; `is_fatal` when readings would be lost or torn by it.

    `cql` are the statements that make it as expected; none where a table would have to be replaced.
    """

    thing: str
    found: str
    expected: str
    consequence: str
    is_fatal: bool = False
    cql: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.thing} is {self.found}, expected {self.expected}: {self.consequence}"


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered `.cql` file; `statements` still name the keyspace as `${keyspace}`.

    `declared` are the columns, by table, that stand in its places for those of the declaration.
    The sha256 is that of the file, whatever is declared.
    """

    version: int
    name: str
    sha256: str
    statements: tuple[str, ...]
    declared: Mapping[str, Columns] = field(default_factory=dict)


def read_migrations(files: Mapping[str, str], declared: DeclaredColumns) -> list[Migration]:
    """Order migrations, given as name -> text, by their number; put `declared` in their places.

    Raises:
        SchemaMismatchError: a name without a number, or a number that is missing or used twice.
    """
    migrations = []
    for name, text in sorted(files.items()):
        match = _MIGRATION_NAME.fullmatch(name)
        if match is None:
            raise SchemaMismatchError(f"migration {name}: expected a name such as 001_words.cql")
        code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
        statements = [part.strip() for part in code.split(";") if part.strip()]
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        migrations.append(
            Migration(
                int(match[1]),
                name,
                sha256,
                tuple(_PLACE.sub(partial(_filled, declared), text) for text in statements),
                {
                    table["name"]: {
                        column: (cql_type, "regular")
                        for place in _PLACE.findall(text)
                        for column, cql_type in declared[place].items()
                    }
                    for text in statements
                    if _PLACE.search(text)
                    and (table := _TABLE.fullmatch(" ".join(text.split()))) is not None
                },
            )
        )
    for position, migration in enumerate(migrations, start=1):
        if migration.version != position:
            raise SchemaMismatchError(
                f"migration {migration.name}: expected number {position:03d}; they are applied in "
                "order, each once"
            )
    return migrations


def _filled(declared: DeclaredColumns, place: re.Match[str]) -> str:
    columns = declared[place[1]].items()
    return ",\n    ".join(f"{column} {cql_type}" for column, cql_type in columns)


def read_declared(migrations: Iterable[Migration]) -> dict[str, Columns]:
    """The columns of each table that follow from the declaration of the readings."""
    found: dict[str, Columns] = {}
    for migration in migrations:
        found |= migration.declared
    return found


def choose_migrations(
    known: Sequence[Migration], applied: Mapping[int, tuple[str, str]]
) -> list[Migration]:
    """Those still to apply; `applied` is version -> (name, sha256), as the keyspace remembers.

    Raises:
        SchemaMismatchError: a file changed after it was applied, or the keyspace is newer than us.
    """
    for migration in known:
        name, sha256 = applied.get(migration.version, (migration.name, migration.sha256))
        if sha256 != migration.sha256:
            raise SchemaMismatchError(
                f"migration {migration.name}: it changed after it was applied as {name} (sha256 "
                f"{sha256[:12]}…, now {migration.sha256[:12]}…). Restore the file, and put the "
                "change into a new migration"
            )
    newer = sorted(set(applied) - {migration.version for migration in known})
    if newer:
        raise SchemaMismatchError(
            f"the keyspace has migration {applied[newer[-1]][0]}, which this version does not "
            "know: upgrade iot_pipeline"
        )
    return [migration for migration in known if migration.version not in applied]


def read_tables(migrations: Iterable[Migration]) -> dict[str, Columns]:
    """The tables that these migrations make, with all their columns.

    Raises:
        SchemaMismatchError: a statement that is neither a new table nor a new column.
    """
    tables: dict[str, dict[str, tuple[str, str]]] = {}
    for migration in migrations:
        for statement in migration.statements:
            code = " ".join(statement.split())
            table, added = _TABLE.fullmatch(code), _ADDED.fullmatch(code)
            if table is not None:
                tables[table["name"]] = _read_columns(table["columns"])
            elif added is not None:
                tables[added["name"]] |= _read_columns(added["column"])
            else:
                raise SchemaMismatchError(
                    f"migration {migration.name}: expected CREATE TABLE or ALTER TABLE ... ADD, "
                    f"found {code[:40]}"
                )
    return dict(tables)


def read_options(migrations: Iterable[Migration]) -> dict[str, dict[str, str]]:
    """The options that these migrations give each table, as far as they are compared."""
    found: dict[str, dict[str, str]] = {}
    for migration in migrations:
        for statement in migration.statements:
            table = _TABLE.fullmatch(" ".join(statement.split()))
            if table is not None:
                given = _COMPACTION.search(table["options"] or "")
                found[table["name"]] = _OPTIONS | ({"compaction": given[1]} if given else {})
    return found


def made_by(migration: Migration, tables: Collection[str]) -> Migration:
    """The migration, with its statements on these tables alone."""
    found = [
        (statement, _TABLE.fullmatch(code) or _ADDED.fullmatch(code))
        for statement in migration.statements
        for code in [" ".join(statement.split())]
    ]
    statements = tuple(text for text, on in found if on is not None and on["name"] in tables)
    return replace(migration, statements=statements)


def compare_options(
    keyspace: str, table: str, expected: Mapping[str, str], found: Mapping[str, str]
) -> list[Difference]:
    """A table's options against those its `.cql` file gives it."""
    where = f"{keyspace}.{table}"
    return [
        Difference(
            f"table {where}: {name}",
            found[name],
            value,
            _what_it_means(where, name, found[name]),
            is_fatal=name == "default_time_to_live",
            cql=() if name == "compaction" else (f"ALTER TABLE {where} WITH {name} = {value}",),
        )
        for name, value in expected.items()
        if found.get(name, value) != value
    ]


def _what_it_means(where: str, name: str, found: str) -> str:
    if name == "default_time_to_live":
        return (
            f"rows die {int(found):,} s after they were written, and rows of a replay would too. "
            f"`iot cql` only reads: in cqlsh, ALTER TABLE {where} WITH default_time_to_live = 0, "
            "then `iot audit --all` names what is gone already"
        )
    if name == "gc_grace_seconds":
        return (
            "a replica that was away for longer brings deleted rows back, and dead cells, which "
            "each read passes over, stay for as long"
        )
    return "rows that are over their retention are not dropped by whole files: the disk grows"


def _read_columns(text: str) -> dict[str, tuple[str, str]]:
    columns: dict[str, tuple[str, str]] = {}
    for part in _split_outside_brackets(text):
        key = _PRIMARY_KEY.fullmatch(part)
        if key is not None:
            kinds = dict.fromkeys(re.findall(r"\w+", key["clustering"]), "clustering")
            names = re.findall(r"\w+", key["several"] or key["one"])
            kinds |= dict.fromkeys(names, "partition_key")
            columns |= {name: (columns[name][0], kind) for name, kind in kinds.items()}
            continue
        name, cql_type = part.split(" ", 1)
        kind = "regular"
        for words, said in ((" PRIMARY KEY", "partition_key"), (" STATIC", "static")):
            if cql_type.endswith(words):
                cql_type, kind = cql_type.removesuffix(words), said
        columns[name] = cql_type, kind
    return columns


def _split_outside_brackets(text: str) -> Iterator[str]:
    depth, begin = 0, 0
    for at, character in enumerate(f"{text},"):
        depth += (character in "(<") - (character in ")>")
        if character == "," and not depth:
            yield text[begin:at].strip()
            begin = at + 1


# Cassandra remembers when a column was dropped, and shows no cell of it with a write time before.
_DROPPED = (
    "it was dropped: what Kafka still has cannot be written into it again, because Cassandra hides "
    "what has a write time from before. Declare the quantity under another name, or set "
    "IOT_KEYSPACE to a new keyspace, and ingest there what Kafka still has"
)


def compare_table(
    keyspace: str,
    table: str,
    expected: Columns,
    found: Columns,
    declared: Columns | None = None,
    dropped: Collection[str] = (),
) -> list[Difference]:
    """A table's columns against those its `.cql` files say.

    Args:
        found: those it has; empty: there is no such table.
        declared: those of `expected` that follow from the declaration of the readings; None: the
            table has no place for such.
        dropped: those it had once, of a table in which write times are older than now.
    """
    if not found:
        return [
            Difference(
                f"table {keyspace}.{table}", "missing", "present", "`iot setup` makes it", True
            )
        ]
    more = {column: found[column] for column in found if column not in expected}
    differences = []
    if declared is not None:
        # Of quantities that were declared once.
        former = [column for column, (_, kind) in more.items() if kind == "regular"]
        more = {column: of for column, of in more.items() if column not in former}
        if former:
            differences.append(
                Difference(
                    f"table {keyspace}.{table}: column {some_columns(former)}",
                    "of no declared quantity",
                    "one that is declared",
                    "what is in it stays, and nothing here reads or writes it any more",
                )
            )
    differences += [
        Difference(
            f"column {keyspace}.{table}.{column}",
            f"{kind} {cql_type}",
            "missing",
            "rows have another key than designed, so none can be written"
            if kind in ("partition_key", "clustering")
            else "nothing here reads or writes it, and a migration that adds it would fail",
            is_fatal=kind in ("partition_key", "clustering"),
        )
        for column, (cql_type, kind) in more.items()
    ]
    for column, (cql_type, kind) in expected.items():
        has = found.get(column)
        if has != (cql_type, kind):
            differences.append(
                Difference(
                    f"column {keyspace}.{table}.{column}",
                    "missing" if has is None else f"{has[1]} {has[0]}",
                    f"{kind} {cql_type}",
                    _DROPPED
                    if has is None and column in dropped
                    else _why_not_written(keyspace, table, has, column in (declared or {})),
                    True,
                    # A key cannot be added to, and a type not be changed.
                    cql=(f"ALTER TABLE {keyspace}.{table} ADD {column} {cql_type}",)
                    if has is None and kind == "regular" and column not in dropped
                    else (),
                )
            )
    return differences


def some_columns(names: Sequence[str]) -> str:
    """Columns for a sentence: a quantity has seven in each table of rollups."""
    more = len(names) - _COLUMNS_SAID
    return ", ".join(names[:_COLUMNS_SAID]) + (f" (and {more} more)" if more > 0 else "")


def _why_not_written(
    keyspace: str, table: str, has: tuple[str, str] | None, is_declared: bool
) -> str:
    if is_declared and has is None:
        return "readings that are declared with it cannot be written; `iot setup` adds it"
    if is_declared:
        return (
            "Cassandra cannot change a column's type. Declare the quantity with the type that the "
            "column has, or under another name (both columns stay), or set IOT_KEYSPACE to a new "
            f"keyspace and ingest there what Kafka still has; nothing was changed in "
            f"{keyspace}.{table}"
        )
    return (
        "rows cannot be written as designed; this table was made by something else. "
        "Set IOT_KEYSPACE to another keyspace, or move the table away"
    )
