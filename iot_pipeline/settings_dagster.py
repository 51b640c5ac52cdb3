"""How Dagster runs a pipeline, what it keeps of that, and what it shows."""

import re
from collections.abc import Iterator
from datetime import date
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

# What Dagster takes for one.
_OWNER = re.compile(r"team:\S+|[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7}")


class DagsterSettings(BaseModel):
    """Runs, checks, history and rollups."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    sign_seconds: float = Field(10, ge=1, le=60)
    """how often a run tells other machines that it lives; after six times without it is ended"""
    ingest_mode: Literal["drain", "follow"] = "drain"
    """runs of the sensor: drain what lags and end, or stay and follow the topic"""
    lanes: int = Field(1, ge=1, le=64)
    """ingest runs of the topic that may work side by side, each on every n-th Kafka partition"""
    run_max_records: int = Field(5_000_000, ge=1)
    """offsets one run drains at most; the next takes the rest"""
    lag_limit_seconds: float = Field(60, gt=0)
    """the check lag_is_within_limit warns above this"""
    freshness_seconds: float = Field(0, ge=0, le=31_536_000)
    """seconds without a run that ingests until Dagster calls sensor_data stale; 0: never"""
    owners: tuple[str, ...] = ("team:data-engineering",)
    """owners of the assets in Dagster: team:NAME or e-mail addresses, comma-separated"""
    code_url: str = Field(
        "",
        pattern=r"^(https?://[^\s@]+)?$",
        json_schema_extra={"form": "an address such as https://host/path, without a login"},
    )
    """page with the code of this deployment, to which the assets in Dagster link; empty: no link"""
    check_seconds: float = Field(20, gt=0, le=600)
    """how long a check on its own may count rows"""
    dead_letter_share: float = Field(0.01, ge=0, le=1)
    """the check dead_letters_are_few warns above this share"""
    superseded_share: float = Field(0.01, ge=0, le=1)
    """the check superseded_are_few warns above this share"""

    run_history_days: float = Field(7, ge=0)
    """how long successful Dagster runs are kept"""
    failed_run_history_days: float = Field(30, ge=0)
    """how long failed and ended Dagster runs are kept"""
    run_history_runs: int = Field(20_000, ge=1)
    """Dagster runs kept at most, the newest; about 200 KB each"""
    ledger_detail_days: float = Field(1, ge=1)
    """older ledger rows become one a day and Kafka partition"""
    report_days: float = Field(90, ge=0)
    """how long health reports are kept"""

    # Rollups.
    rollup_start: date | None = None
    """first day of the rollups' partitions in Dagster; empty: the day with which readings begin"""
    rollup_refresh_seconds: float = Field(600, ge=10, le=86_400)
    """today's rollups are rebuilt at most this often"""
    rollup_quiet_seconds: float = Field(60, ge=0, le=86_400)
    """earlier days are rebuilt when nothing touched them for this long"""

    @field_validator("owners", mode="before")
    @classmethod
    def _split_owners(cls, value: object) -> object:
        return split(value)

    @field_validator("owners")
    @classmethod
    def _owners(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for owner in value:
            if not _OWNER.fullmatch(owner):
                raise ValueError("expected team:NAME or e-mail addresses, comma-separated")
        return value


def split(value: object) -> object:
    """What commas part, as settings of several values are given in the environment."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def wrong_with(settings: DagsterSettings, follow_seconds: float) -> Iterator[str]:
    """A sentence for each thing that cannot work."""
    stale = settings.freshness_seconds
    # A run that follows materializes once, when it begins.
    shortest = max(60.0, 2 * follow_seconds if settings.ingest_mode == "follow" else 0.0)
    if 0 < stale < shortest:
        yield (
            f"IOT_FRESHNESS_SECONDS={stale:g}: expected {shortest:g} or more (twice "
            "IOT_FOLLOW_SECONDS where runs follow), or 0"
        )
