"""The contract of `DeviceStateStore`, for the fake and for the real client alike.

A subclass gives the fixture `states`: a store that nobody else writes.
"""

import uuid

from iot_pipeline.stages.requests import ask_all


def wait_for(states, pending):
    while not pending.done:
        states.wait(0.1)
    assert pending.error is None
    return pending.found


def write(states, content, live_seconds=1000):
    parts = states.in_batches(content)
    sent = ask_all(parts, lambda part: states.start_write(part, live_seconds), states.wait)
    return [name for part, _ in sent for name in part]


class DeviceStateStoreContract:
    def test_what_was_written_is_read_and_the_last_one_counts(self, states):
        first = {f"device {n}": bytes([n % 256]) * 300 for n in range(300)}
        assert sorted(write(states, first)) == sorted(first)
        assert states.read_some(10_000) == (first, True)
        write(states, {"device 7": b"later"})
        found, _ = states.read_some(10_000)
        assert found == {**first, "device 7": b"later"}
        assert wait_for(states, states.start_read("device 7")) == b"later"

    def test_there_is_nothing_before_anything_was_kept(self, states):
        assert states.read_some(10_000) == ({}, True)
        assert states.read_fleet() is None
        assert wait_for(states, states.start_read(uuid.uuid4().hex)) is None
        assert write(states, {}) == []

    def test_what_is_kept_of_the_fleet_is_no_device(self, states):
        states.write_fleet(b"fleet", 1000, 60.0)
        assert states.read_fleet() == b"fleet"
        assert states.read_some(10_000) == ({}, True)

    def test_of_a_large_fleet_some_are_read_always_the_same_and_it_is_said(self, states):
        content = {f"d{n}": b"x" for n in range(2_000)}
        write(states, content)
        found, is_all = states.read_some(320)
        assert not is_all
        assert 320 <= len(found) <= 2 * 320
        assert states.read_some(320) == (found, False)

    def test_any_name_and_any_bytes_are_kept(self, states):
        content = {"ü" * 100: b"\x00\xff", "a'b\"$`|\n": b"\x01" * 60_000}
        write(states, content)
        assert states.read_some(10_000) == (content, True)
