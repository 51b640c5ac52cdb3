"""A drain whose micro-batches are traced: the same drain, and each step with its times."""

from dataclasses import dataclass, field, replace

import pytest

from iot_pipeline.core.ingest.traces import BatchTrace
from iot_pipeline.errors import PermanentError
from iot_pipeline.stages.ingest.drain import drain
from iot_pipeline.stages.ports.ledger import Run
from iot_pipeline_tests.stages.fakes import writer_id
from iot_pipeline_tests.stages.faults import Faults, How
from iot_pipeline_tests.stages.world import CONFIG, T0, World, a_busy_world


@dataclass
class Kept:
    """A `Traces`."""

    traces: list[BatchTrace] = field(default_factory=list)

    def export(self, trace: BatchTrace) -> None:
        self.traces.append(trace)

    def close(self) -> None:
        """Nothing is held back."""


def traced_drain(world: World, faults: Faults | None, kept: Kept) -> None:
    ports = replace(world.ports(faults), open_traces=lambda: kept)
    drain(world.plan(), ports, Run("run-1", writer_id(1)), CONFIG)


def test_every_offset_is_in_one_trace_whose_steps_are_in_their_order() -> None:
    traced, plain = a_busy_world(), a_busy_world()
    kept = Kept()
    traced_drain(traced, None, kept)
    traces = kept.traces
    plain.drain()
    assert traced.store.cells == plain.store.cells
    assert traced.letters.by_place().keys() == plain.letters.by_place().keys()
    traced.check_all_is_drained()
    offsets = [
        (item.partition, offset)
        for trace in traces
        for item in trace.ranges
        for offset in range(item.start, item.end)
    ]
    assert sorted(offsets) == [(p, at) for p in (0, 1) for at in range(traced.log.end(p))]
    stored = [entry.counts.stored for entry in traced.ledger.read_entries("iot_data", [0, 1])]
    assert sum(trace.rows for trace in traces) == sum(stored)
    assert sum(trace.dead_letters for trace in traces) == len(traced.letters.by_place())
    assert traces[0].steps[0].name == "consume"
    for trace in traces:
        steps = [step.name for step in trace.steps]
        with_letters = ["letters"] if trace.dead_letters else []
        # What the micro-batch before has read and held back is not consumed again.
        consumed = steps[:1] if steps[0] == "consume" else []
        assert steps == [*consumed, "decode", "write", *with_letters, "commit"]
        assert (trace.topic, trace.run_id, trace.error) == ("iot_data", "run-1", "")
        by_name = {step.name: step for step in trace.steps}
        assert by_name["decode"].end_ns <= by_name["write"].start_ns
        assert by_name["write"].end_ns <= by_name["commit"].start_ns
        assert all(0 <= s.busy_ns <= s.end_ns - s.start_ns for s in trace.steps)


def test_what_came_to_no_checkpoint_is_told_with_the_reason() -> None:
    world = World()
    for step in range(3):
        world.write(device="d", at=T0 + step)
    world.write_bad()
    kept = Kept()
    with pytest.raises(PermanentError):
        traced_drain(world, Faults(1, How.PERMANENT, only="dead_letters.deliver"), kept)
    (trace,) = kept.traces
    assert [step.name for step in trace.steps] == ["consume", "decode", "write"]
    assert trace.error.startswith("PermanentError: ")
    assert (trace.records, trace.rows) == (4, 3)
