"""What was sent beside what is there: PASS only where each reading has its row."""

from datetime import timedelta

import pytest

from iot_pipeline.core.simulator.fault_specs import FaultKind
from iot_pipeline.core.simulator.manifest import FaultTruth
from iot_pipeline.core.simulator.verify import (
    Verification,
    arrived_within,
    by_device,
    compare_device,
    malformed_places,
    measured_within,
)
from iot_pipeline_tests.manifests import MOMENT, device, make_manifest


def fault(kind: FaultKind, messages: int = 0, **more: object) -> FaultTruth:
    return FaultTruth(
        kind=kind,
        device_id="d",
        first_at=MOMENT,
        last_at=MOMENT,
        messages=messages,
        **more,  # type: ignore[arg-type]
    )


def verified(rows: int, *faults: FaultTruth, deleted: bool = False, **more: int) -> Verification:
    line = compare_device(device("d", 100), faults, rows, is_deleted=deleted)
    return Verification([line], **more)


@pytest.mark.parametrize(
    ("found", "passes"),
    [
        (verified(100), True),
        (verified(99), False),
        (verified(101), False),
        # It was never acknowledged, and arrived all the same.
        (verified(101, unconfirmed=1), True),
        (verified(102, unconfirmed=1), False),
        # A wrong clock says the milliseconds of other readings.
        (verified(95, fault(FaultKind.CLOCK_SKEW, 5, amount=60.0)), True),
        (verified(94, fault(FaultKind.CLOCK_SKEW, 5, amount=60.0)), False),
        (verified(0, deleted=True), True),
        (verified(100, malformed=3, letters=3), True),
        (verified(100, malformed=3, letters=2), False),
    ],
)
def test_it_passes_only_where_everything_was_found(found: Verification, passes: bool) -> None:
    assert found.passed == passes
    assert found.sentences()[0].startswith("PASS" if passes else "DIFFERS")


def test_what_was_not_compared_or_not_ingested_is_said() -> None:
    assert "deleted on purpose" in " ".join(verified(0, deleted=True).sentences())
    assert "`iot drain`, then verify again" in " ".join(verified(9, waiting=91).sentences())
    assert "`iot audit`" in " ".join(verified(9).sentences())


def test_rows_are_looked_for_where_a_wrong_clock_put_them() -> None:
    faults = [fault(FaultKind.CLOCK_SKEW, amount=-86_400.0), fault(FaultKind.LATE, amount=7.0)]
    window = measured_within(device("d", 1), faults)
    assert window is not None
    assert window.since <= MOMENT - timedelta(days=1)
    assert window.until >= MOMENT + timedelta(hours=1)
    assert measured_within(device("d"), faults) is None


def test_only_what_arrived_while_it_sent_is_its() -> None:
    manifest = make_manifest([device("d", 1)])
    first, last = arrived_within(manifest)
    assert last - first == 86_400_000 + 2_000


def test_malformed_messages_are_looked_for_at_their_offsets() -> None:
    faults = [
        fault(FaultKind.MALFORMED, 3, offsets={1: [(4, 5)], 2: [(7, 7)]}),
        fault(FaultKind.DUPLICATE, 1, offsets={1: [(9, 9)]}),
    ]
    manifest = make_manifest([device("d", 1)], faults)
    assert malformed_places(manifest) == {(1, 4), (1, 5), (2, 7)}
    assert by_device(manifest) == {"d": faults}
