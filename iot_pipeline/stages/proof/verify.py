"""Compare the manifest of a simulation with the table and the dead letters; changes nothing.

Apart from the ledger and from Kafka's readings: what was sent is known from who sent it.
"""

from iot_pipeline.core.proof.read_back import newest_us
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.reading.spans import Place
from iot_pipeline.core.reading.write_times import arrived_ms
from iot_pipeline.core.simulator.manifest import Manifest
from iot_pipeline.core.simulator.verify import (
    Verification,
    arrived_within,
    by_device,
    compare_device,
    malformed_places,
    measured_within,
)
from iot_pipeline.core.times import day_number
from iot_pipeline.stages.ingest.planning import read_states
from iot_pipeline.stages.proof.ports import AuditPorts
from iot_pipeline.stages.proof.read_back import scan_rows
from iot_pipeline.stages.requests import retry_transient


def verify(manifest: Manifest, ports: AuditPorts) -> Verification:
    """Count each device's rows of what arrived while the simulation sent, and its dead letters.

    Raises:
        TransientError: Kafka or Cassandra stayed away.
    """
    retry_seconds = ports.settings.retry_seconds
    result = Verification(unconfirmed=manifest.unconfirmed)
    faults = by_device(manifest)
    deleted = {item.device_id for item in ports.deletions.read_deletions()}
    first_ms, last_ms = arrived_within(manifest)
    _, _, states = read_states(ports.log, ports.ledger, manifest.topic)
    result.waiting = sum(state.lag for state in states)
    for device in manifest.devices:
        window = measured_within(device, faults.get(device.device_id, []))
        places: list[Place] = []
        if window is not None:
            days = retry_transient(
                lambda device=device, window=window: list(  # type: ignore[misc]
                    ports.days.days_of(device.device_id, window)
                ),
                give_up_after_seconds=retry_seconds,
            )
            places = [(device.device_id, day_number(day)) for day in days]
        rows = sum(
            first_ms <= arrived_ms(newest_us(stored)) <= last_ms
            for _, found in scan_rows(ports.rows, places, retry_seconds)
            for _, stored in found
        )
        result.devices.append(
            compare_device(
                device,
                faults.get(device.device_id, []),
                rows,
                is_deleted=device.device_id in deleted,
            )
        )
    _count_letters(manifest, ports, result)
    return result


def _count_letters(manifest: Manifest, ports: AuditPorts, result: Verification) -> None:
    wanted = malformed_places(manifest)
    result.malformed = len(wanted)
    if not wanted:
        return
    dlq, topic = ports.settings.dead_letter_topic, manifest.topic
    ranges = [OffsetRange(m.partition, m.low, m.last_stable) for m in ports.log.watermarks(dlq)]
    found = ports.records.letter_places(
        dlq, ranges, topic, ports.log.topic_id(topic), lambda _: None
    )
    result.letters = len(wanted.intersection(found))
