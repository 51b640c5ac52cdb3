"""Nonsense in the launchpad is refused before there is a run, with the reason first."""

import dagster as dg
import pytest

from iot_pipeline.definitions import build_definitions

ONE = {"0": {"start": 5, "end": 9}}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"max_records": 0}, "max_records 0: Input should be greater than or equal to 1"),
        ({"max_records": "many"}, 'Value "many" of type .* is not valid for expected type "Int"'),
        ({"ranges": {"0": {"start": -1, "end": 9}}}, r"ranges\.0\.start -1: Input should be"),
        ({"ranges": {"0": {"start": 9, "end": 9}}}, "ranges 0:9-9: expected .* above the start"),
        ({"ranges": {"one": {"start": 5, "end": 9}}}, "expected the number of a Kafka partition"),
        ({"ranges": ["0:5-9"]}, "Value at path root:ops:ingest_readings:config:ranges must be"),
        ({"ranges": ONE, "max_records": 3}, "leave max_records empty with them"),
        ({"range": ONE}, "unexpected config entry"),
    ],
)
@pytest.mark.parametrize("job", ["ingest", "__ASSET_JOB"])
def test_nonsense_for_an_ingest_run_is_refused_on_launch(
    job: str, config: dict[str, object], said: str
) -> None:
    definition = build_definitions().resolve_job_def(job)
    whole = {"ops": {"ingest_readings": {"config": config}}}
    with pytest.raises(
        (dg.DagsterInvariantViolationError, dg.DagsterInvalidConfigError), match=said
    ):
        dg.validate_run_config(definition, whole)


@pytest.mark.parametrize("config", [{}, {"ranges": ONE}, {"max_records": 1}])
def test_what_makes_sense_for_an_ingest_run_is_accepted(config: dict[str, object]) -> None:
    definition = build_definitions().resolve_job_def("ingest")
    assert dg.validate_run_config(
        definition, {"ops": {"ingest_readings": {"config": config}}} if config else {}
    )


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"devices": 0}, "devices 0: Input should be greater than or equal to 1"),
        ({"rate": -1}, "rate -1"),
        ({"seconds": 1e9}, "seconds 1000000000.0: Input should be less than or equal to 31622400"),
        ({"start": "yesterday"}, "yesterday: expected a time such as"),
    ],
)
def test_nonsense_for_a_simulation_is_refused_on_launch(
    config: dict[str, object], said: str
) -> None:
    definition = build_definitions().resolve_job_def("simulate")
    with pytest.raises(dg.DagsterInvariantViolationError, match=said):
        dg.validate_run_config(definition, config)
